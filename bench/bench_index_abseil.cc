// How fast does abseil's flat_hash_map find the keys of bench_index? Same keys, same draws.
//
//   bench_index_abseil [KEYS...]     default 1,000,000 and 10,000,000
//
// Finds one after the other, and with each key's prefetch asked for 32 keys ahead. CPU time of the
// thread, median of the repeats, verified first. The index lies in huge pages; for the same here, run
// with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
#include "common/hash.h"
#include "common/version.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

namespace {

constexpr size_t kProbes = 1 << 21, kRepeats = 9, kAhead = 32;
using Map = absl::flat_hash_map<uint64_t, uint32_t>;

void Check(bool good, const char *what) {
    if (!good) {
        std::fprintf(stderr, "bench_index_abseil: %s\n", what);
        std::exit(EXIT_FAILURE);
    }
}

double CoreSeconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

uint64_t KeyOf(uint64_t row) {
    return row * 0x9E3779B97F4A7C15ull;
}

double Uniform(uint64_t at, uint64_t stream) {
    return static_cast<double>(weir_hash64(weir_hash64(at) ^ stream) >> 11) * 0x1p-53;
}

template <bool kPrefetch>
void Find(const Map &map, const std::vector<uint64_t> &keys, std::vector<uint32_t> *rows) {
    for (size_t i = 0; i < keys.size(); i++) {
        if (kPrefetch && i + kAhead < keys.size()) {
            map.prefetch(keys[i + kAhead]);
        }
        auto found = map.find(keys[i]);
        (*rows)[i] = found == map.end() ? UINT32_MAX : found->second;
    }
}

template <bool kPrefetch>
double Rate(const Map &map, const std::vector<uint64_t> &keys,
            const std::vector<uint32_t> &wanted) {
    std::vector<uint32_t> rows(kProbes);
    std::vector<double> seconds(kRepeats);
    Find<kPrefetch>(map, keys, &rows);
    Check(rows == wanted, "a find is wrong");
    for (double &taken : seconds) {
        double begin = CoreSeconds();
        Find<kPrefetch>(map, keys, &rows);
        taken = CoreSeconds() - begin;
    }
    std::sort(seconds.begin(), seconds.end());
    return kProbes / seconds[kRepeats / 2];
}

void BenchKeys(uint64_t count) {
    Map map;
    double begin = CoreSeconds(), longest = 0.0, before = begin;
    for (uint64_t row = 0; row < count; row++) {
        Check(map.emplace(KeyOf(row), static_cast<uint32_t>(row)).second, "a key is there twice");
        if (row % 16 == 15) {
            double after = CoreSeconds();
            longest = std::max(longest, after - before);
            before = after;
        }
    }
    double inserts = static_cast<double>(count) / (CoreSeconds() - begin);
    std::vector<uint64_t> hits(kProbes), misses(kProbes);
    std::vector<uint32_t> wanted(kProbes), none(kProbes, UINT32_MAX);
    for (uint64_t i = 0; i < kProbes; i++) {
        wanted[i] = static_cast<uint32_t>(static_cast<double>(count) * Uniform(i, 2));
        hits[i] = KeyOf(wanted[i]);
        misses[i] = KeyOf(count + i);
    }
    double plain_hits = Rate<false>(map, hits, wanted), ahead_hits = Rate<true>(map, hits, wanted);
    double plain_misses = Rate<false>(map, misses, none);
    double ahead_misses = Rate<true>(map, misses, none);
    double bytes = static_cast<double>(map.bucket_count()) * (sizeof(Map::value_type) + 1);
    std::printf("{\"bench\": \"index_find_abseil\", \"version\": \"%s\", \"keys\": %llu, "
                "\"hits_per_second\": %.4g, \"misses_per_second\": %.4g, "
                "\"prefetched_hits_per_second\": %.4g, \"prefetched_misses_per_second\": %.4g, "
                "\"inserts_per_second\": %.4g, \"longest_insert_us\": %.4g, "
                "\"load\": %.3f, \"bytes_per_key\": %.4g}\n",
                WEIR_VERSION, static_cast<unsigned long long>(count), plain_hits, plain_misses,
                ahead_hits, ahead_misses, inserts, 1e6 * longest,
                static_cast<double>(map.load_factor()), bytes / static_cast<double>(count));
}

} // namespace

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        unsigned long long keys = std::strtoull(argv[i], nullptr, 10);
        Check(keys >= 1000 && keys <= 4000000000ull, "KEYS are 1000 to 4000000000");
        BenchKeys(keys);
    }
    if (argc == 1) {
        BenchKeys(1000000);
        BenchKeys(10000000);
    }
    return EXIT_SUCCESS;
}
