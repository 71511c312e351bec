/* The number type of the model. The sources under worker/ that compute the model are compiled
 * twice: as float32 for training and, with WEIR_REAL_F64, as float64 for gradient and golden tests.
 */
#ifndef WEIR_COMMON_REAL_H
#define WEIR_COMMON_REAL_H

#ifdef WEIR_REAL_F64
typedef double weir_real_t;
#define WEIR_REAL_NAME "f64"
#else
typedef float weir_real_t;
#define WEIR_REAL_NAME "f32"
#endif

#endif
