#include "worker/time_bucket.h"

#include "worker/hstu.h"

enum { LAST_BUCKET = WEIR_HSTU_TIME_BUCKETS - 1 };

/* thresholds[b - 1] is the smallest distance in bucket b or above: the smallest integer d for which
 * ln(d) / 0.301 >= b in float64. Made by bisection of that formula; the unit test compares both. */
static const uint64_t thresholds[LAST_BUCKET] = {
    2u,
    2u,
    3u,
    4u,
    5u,
    7u,
    9u,
    12u,
    16u,
    21u,
    28u,
    38u,
    51u,
    68u,
    92u,
    124u,
    167u,
    226u,
    305u,
    412u,
    557u,
    752u,
    1016u,
    1372u,
    1854u,
    2505u,
    3385u,
    4574u,
    6180u,
    8350u,
    11283u,
    15245u,
    20600u,
    27834u,
    37610u,
    50818u,
    68666u,
    92782u,
    125367u,
    169397u,
    228891u,
    309280u,
    417902u,
    564672u,
    762990u,
    1030960u,
    1393042u,
    1882291u,
    2543369u,
    3436624u,
    4643598u,
    6274473u,
    8478127u,
    11455724u,
    15479081u,
    20915478u,
    28261189u,
    38186783u,
    51598337u,
    69720155u,
    94206525u,
    127292737u,
    171999135u,
    232406837u,
    314030289u,
    424320660u,
    573346040u,
    774710524u,
    1046796097u,
    1414440665u,
    1911205440u,
    2582438644u,
    3489415219u,
    4714930440u,
    6370858056u,
    8608362918u,
    11631700390u,
    15716862225u,
    21236771058u,
    28695323438u,
    38773389087u,
    52390965538u,
    70791162047u,
    95653679456u,
    129248145233u,
    174641301215u,
    235976957620u,
    318854269524u,
    430838867570u,
    582153502558u,
    786611250865u,
    1062876470327u,
    1436168615607u,
    1940564449431u,
    2622108811928u,
    3543017921206u,
    4787358912370u,
    6468724083690u,
    8740600409714u,
    11810380924256u,
    15958297031977u,
    21563000024645u,
    29136127064885u,
    39369007066311u,
    53195770115075u,
    71878621509799u,
    97123064840915u,
    131233592491847u,
    177324056098576u,
    239601921079807u,
    323752354013490u,
    437457205087951u,
    591096262037947u,
    798694791013878u,
    1079203862655707u,
    1458230340644293u,
    1970374458392736u,
    2662388374508177u,
    3597444042437669u,
    4860899995802034u,
    6568093482609822u,
    8874869269797366u,
    11991806262278891u,
    16203440643505230u,
    21894240362561062u,
    29583702103771238u,
    39973774639893333u,
    54012937709959404u,
};

uint32_t weir_time_bucket_of_distance(uint64_t distance) {
    if (distance < 2) {
        return 0;
    }
    /* 2^e has ln(2^e) / 0.301 = 2.3028 e, so that bucket is a lower bound and at most three short.
     */
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(distance);
    uint32_t bucket = exponent * 2302u / 1000u;
    if (bucket >= LAST_BUCKET) {
        return LAST_BUCKET;
    }
    while (bucket < LAST_BUCKET && distance >= thresholds[bucket]) {
        bucket++;
    }
    return bucket;
}

uint32_t weir_time_bucket(int64_t difference) {
    return weir_time_bucket_of_distance(weir_time_distance(difference, 0));
}
