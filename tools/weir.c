/* The command `weir`: everything is in its verbs. */
#include "common/log.h"
#include "common/version.h"
#include "tools/verbs.h"

#include <argp.h>

const char *argp_program_version = "weir " WEIR_VERSION;

int main(int argc, char **argv) {
    argp_err_exit_status = 2; /* as WEIR_ERR_INVALID: a bad option is a bad argument */
    weir_log_init("weir", -1, WEIR_LOG_INFO);
    return weir_verbs_run(
        weir_verbs, "weir",
        "Generative recommenders with very large embedding tables on CPU clusters.", argc, argv);
}
