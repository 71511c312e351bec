#include "analysis/spectrum.h"
#include "common/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 720, HEIGHT = 400, LEFT = 64, RIGHT = 16, TOP = 48, BOTTOM = 44, TICKS = 8 };

/* Decades below the largest value that are shown: what the smallest one above the floor needs. */
static int decades(const weir_spectrum_t *spectrum) {
    double least = 0.1;
    for (size_t k = 0; k < spectrum->dim; k++) {
        double share = spectrum->singular_values[k] / spectrum->singular_values[0];
        least = spectrum->singular_values[k] > spectrum->floor && share < least ? share : least;
    }
    return (int)ceil(-log10(least) - 1e-9);
}

static double place_x(const weir_spectrum_t *spectrum, double k) {
    double span = spectrum->dim > 1 ? (double)(spectrum->dim - 1) : 1.0;
    return LEFT + (WIDTH - LEFT - RIGHT) * (k - 1.0) / span;
}

static double place_y(double share, int most) {
    double depth = share > 0.0 ? -log10(share) / most : 1.0;
    return TOP + (HEIGHT - TOP - BOTTOM) * (depth < 1.0 ? depth : 1.0);
}

static void draw_axes(FILE *out, const weir_spectrum_t *spectrum, int most) {
    for (int decade = 0; decade <= most; decade++) {
        double y = place_y(pow(10.0, -decade), most);
        (void)fprintf(out,
                      "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                      "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">1e-%d</text>\n",
                      LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4.0, decade);
    }
    size_t step = (spectrum->dim + TICKS - 1) / TICKS;
    for (size_t k = 1; k <= spectrum->dim; k += step) {
        (void)fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n",
                      place_x(spectrum, (double)k), HEIGHT - BOTTOM + 18, k);
    }
    (void)fprintf(out,
                  "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">singular value, number"
                  "</text>\n",
                  (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
}

static void draw(FILE *out, const weir_spectrum_t *spectrum, const char *table) {
    int most = decades(spectrum);
    double rank_x = place_x(spectrum, spectrum->effective_rank);
    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
                  "<text x=\"%d\" y=\"22\" font-size=\"14\">Singular values of table ",
                  WIDTH, HEIGHT, LEFT);
    for (const char *c = table; *c != '\0'; c++) {
        (void)fputc(*c == '<' || *c == '>' || *c == '&' ? '?' : *c, out);
    }
    (void)fprintf(out, " / largest; effective rank %.1f of %zu%s</text>\n",
                  spectrum->effective_rank, spectrum->dim, spectrum->centered ? ", centered" : "");
    draw_axes(out, spectrum, most);
    (void)fprintf(out,
                  "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#b44\" "
                  "stroke-dasharray=\"4 3\"/>\n<polyline fill=\"none\" stroke=\"#246\" "
                  "stroke-width=\"2\" points=\"",
                  rank_x, rank_x, TOP, HEIGHT - BOTTOM);
    for (size_t k = 0; k < spectrum->dim; k++) {
        (void)fprintf(out, "%.1f,%.1f ", place_x(spectrum, (double)k + 1.0),
                      place_y(spectrum->singular_values[k] / spectrum->singular_values[0], most));
    }
    (void)fprintf(out, "\"/>\n</svg>\n");
}

weir_err_t weir_spectrum_plot(const weir_spectrum_t *spectrum, const char *table, const char *path,
                              weir_error_t *error) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return weir_error_from_errno(error, errno, "cannot draw %s", path);
    }
    draw(out, spectrum, table);
    bool drawn = fclose(out) == 0;
    weir_err_t err = drawn ? weir_file_replace(path, text, size, error)
                           : weir_errorf(error, WEIR_ERR_MEMORY, "no memory to draw %s", path);
    free(text);
    return err;
}
