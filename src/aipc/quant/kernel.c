/* Quantises groups of a weight in one pass through memory: what aipc/quant/int4.py and int8.py say in numpy.

   The results are the same to the last bit, so every operation on floats here is one that numpy does there, in the
   same order, and the compiler must not fuse any two (-ffp-contract=off). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Anywhere else numpy does the work: an extension that does not compile is left out. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian, and are read here as they lie in memory"
#elif defined(__FAST_MATH__) || (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ == 2)
#error "the bytes would differ from numpy's: every float operation has to be rounded to a float, as it is written"
#endif
#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

enum { F16, BF16, F32 };
enum { DONE, NOT_FINITE, TOO_LARGE };

#ifdef __GNUC__
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE __forceinline
#endif
#define RESTRICT __restrict /* in MSVC, GCC and Clang; that codes and weights lie apart lets loops take many at once */

#define VERSION 1 /* raised with every change of arguments or of results, here and in compiled.py */
#define CHUNK 512 /* columns at a time */
#define GROUPS 8 /* groups at a time; of 128 columns they fit the first-level cache */

/* One copy of a function for each generation of x86 processors, of which the loader takes the newest that runs. It is
   glibc's loader that can, and GCC knows generations from 12 on. */
#if !defined(__GNUC__) || defined(__clang__) || !defined(__x86_64__) || !defined(__GLIBC__)
#define FOR_EACH_CPU
#elif __GNUC__ >= 12
#define FOR_EACH_CPU __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2")))
#endif

static ALWAYS_INLINE float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static ALWAYS_INLINE uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exact for finite values, subnormal ones included; an F16 beyond becomes infinite or NaN. */
static ALWAYS_INLINE float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = (uint32_t)(half & 0x7FFF) << 13;
    float value = as_float(magnitude) * 5.192296858534828e33f; /* corrects the bias of the exponent */
    uint32_t is_finite = (half & 0x7C00) != 0x7C00;
    return as_float((is_finite ? as_bits(value) : magnitude | 0x7F800000) | sign);
}

/* To nearest even, as the processor's own instruction; infinite when it is too large. */
static ALWAYS_INLINE uint16_t to_half(float value) {
    uint32_t bits = as_bits(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
    uint32_t normal = (magnitude + 0xC8000FFF + ((magnitude >> 13) & 1)) >> 13;
    uint32_t subnormal = as_bits(as_float(magnitude) + 0.5f) - 0x3F000000; /* the sum's last place is 2^-24 */
    uint32_t half = magnitude < 0x38800000 ? subnormal : normal;
    return (uint16_t)(sign | (magnitude >= 0x477FF000 ? 0x7C00 : half));
}

static ALWAYS_INLINE void widen(const void *source, int kind, size_t start, size_t count, float *values) {
    if (kind == BF16) {
        const uint16_t *bits = (const uint16_t *)source + start;
        for (size_t i = 0; i < count; i++) values[i] = as_float((uint32_t)bits[i] << 16);
    } else if (kind == F16) {
        const uint16_t *bits = (const uint16_t *)source + start;
        for (size_t i = 0; i < count; i++) values[i] = from_half(bits[i]);
    } else {
        memcpy(values, (const float *)source + start, count * sizeof(float));
    }
}

typedef struct {
    int kind, bits, symmetric;
    size_t groups, columns; /* columns of a group */
    const void *source;
    uint8_t *codes, *zero_points;
    uint16_t *scales;
} Task;

/* The lowest value, at most 0, and the highest, at least 0, found on the stored bits: as signed integers positive
   floats are in order, as unsigned integers the negative ones are. */
#define EXTREME_BITS(name, signed_type, unsigned_type)                                                          \
    static ALWAYS_INLINE void name(const unsigned_type *bits, size_t count, unsigned_type *low, unsigned_type *high) { \
        signed_type highest = 0;                                                                                \
        unsigned_type lowest = 0;                                                                               \
        for (size_t i = 0; i < count; i++) {                                                                    \
            highest = (signed_type)bits[i] > highest ? (signed_type)bits[i] : highest;                          \
            lowest = bits[i] > lowest ? bits[i] : lowest;                                                       \
        }                                                                                                       \
        *high = (unsigned_type)highest;                                                                         \
        *low = (signed_type)lowest < 0 ? lowest : 0;                                                            \
    }
EXTREME_BITS(extreme_halves, int16_t, uint16_t)
EXTREME_BITS(extreme_words, int32_t, uint32_t)

/* Returns whether all values of the group are finite. */
static ALWAYS_INLINE int extremes(const Task *task, int kind, size_t first, size_t columns, float *lowest,
                                  float *highest) {
    if (kind == F32) {
        uint32_t low, high;
        extreme_words((const uint32_t *)task->source + first, columns, &low, &high);
        *lowest = as_float(low);
        *highest = as_float(high);
        return (low & 0x7FFFFFFF) < 0x7F800000 && high < 0x7F800000;
    }
    uint16_t low, high, infinity = kind == F16 ? 0x7C00 : 0x7F80;
    extreme_halves((const uint16_t *)task->source + first, columns, &low, &high);
    *lowest = kind == F16 ? from_half(low) : as_float((uint32_t)low << 16);
    *highest = kind == F16 ? from_half(high) : as_float((uint32_t)high << 16);
    return (low & 0x7FFF) < infinity && high < infinity;
}

/* As bytes, or two in one, the earlier below. */
static ALWAYS_INLINE void store(const int32_t *RESTRICT codes, int bits, size_t count, uint8_t *RESTRICT stored) {
    if (bits == 8)
        for (size_t i = 0; i < count; i++) stored[i] = (uint8_t)codes[i];
    else
        for (size_t i = 0; i < count / 2; i++)
            stored[i] = (uint8_t)((codes[2 * i] & 15) | (codes[2 * i + 1] & 15) << 4);
}

/* Adding 1.5 * 2^23 rounds to a whole number, to nearest even, that then stands in the sum's low bits. */
static ALWAYS_INLINE void encode(const Task *task, int kind, int bits, size_t first, size_t columns, float per_scale,
                                 float zero_point) {
    int lowest = task->symmetric ? -(1 << (bits - 1)) : 0, highest = lowest + (1 << bits) - 1;
    for (size_t done = 0; done < columns; done += CHUNK) {
        size_t count = columns - done < CHUNK ? columns - done : CHUNK, start = first + done;
        float values[CHUNK];
        int32_t codes[CHUNK];
        widen(task->source, kind, start, count, values);
        for (size_t i = 0; i < count; i++) {
            float place = values[i] * per_scale + zero_point; /* 0 for symmetric codes, and adding it changes nothing */
            int32_t code = (int32_t)(as_bits(place + 12582912.0f) - 0x4B400000u);
            code = code < lowest ? lowest : code;
            codes[i] = code > highest ? highest : code;
        }
        store(codes, bits, count, task->codes + start * (size_t)bits / 8);
    }
}

/* Scales, and what a value is multiplied by and added to for its code. Returns whether FP16 holds all scales. */
static ALWAYS_INLINE int find_scales(const Task *task, int bits, size_t first, size_t count, const float *lowest,
                                     const float *highest, float *per_scale, float *zero_points) {
    float steps = (float)((1 << bits) - 1), lowest_code = -(float)(1 << (bits - 1));
    int fits = 1;
    for (size_t i = 0; i < count; i++) {
        float farthest = -lowest[i] > highest[i] ? lowest[i] : highest[i];
        uint16_t scale = to_half(task->symmetric ? farthest / lowest_code : (highest[i] - lowest[i]) / steps);
        float wide = from_half(scale);
        fits &= (scale & 0x7C00) != 0x7C00;
        per_scale[i] = wide != 0 ? 1 / wide : 0;
        task->scales[first + i] = scale;
    }
    for (size_t i = 0; i < count && !task->symmetric; i++) {
        float zero_point = rintf(-lowest[i] * per_scale[i]);
        zero_points[i] = zero_point < 0 ? 0 : zero_point > steps ? steps : zero_point;
        task->zero_points[first + i] = (uint8_t)zero_points[i];
    }
    return fits;
}

/* A few groups at a time, each step for all of them, as the steps of one group wait for each other. */
static ALWAYS_INLINE int quantize_groups(const Task *task, int kind, int bits, size_t columns) {
    float lowest[GROUPS], highest[GROUPS], per_scale[GROUPS], zero_points[GROUPS] = {0};
    int outcome = DONE;
    for (size_t first = 0; first < task->groups; first += GROUPS) {
        size_t count = task->groups - first < GROUPS ? task->groups - first : GROUPS;
        for (size_t i = 0; i < count; i++)
            if (!extremes(task, kind, (first + i) * columns, columns, &lowest[i], &highest[i])) return NOT_FINITE;
        if (!find_scales(task, bits, first, count, lowest, highest, per_scale, zero_points)) outcome = TOO_LARGE;
        for (size_t i = 0; i < count; i++)
            encode(task, kind, bits, (first + i) * columns, columns, per_scale[i], zero_points[i]);
    }
    return outcome;
}

/* With constants for arguments the compiler unrolls the loops over a group. */
static ALWAYS_INLINE int quantize_kind(const Task *task, int kind) {
    if (task->bits == 8) return quantize_groups(task, kind, 8, task->columns);
    switch (task->columns) {
    case 32: return quantize_groups(task, kind, 4, 32);
    case 64: return quantize_groups(task, kind, 4, 64);
    case 128: return quantize_groups(task, kind, 4, 128);
    default: return quantize_groups(task, kind, 4, task->columns);
    }
}

FOR_EACH_CPU static int quantize_all(const Task *task) {
    switch (task->kind) {
    case F16: return quantize_kind(task, F16);
    case BF16: return quantize_kind(task, BF16);
    default: return quantize_kind(task, F32);
    }
}

/* The sizes come from Python, and their products might not fit a size_t. */
static int buffers_fit(const Task *task, const Py_buffer *source, const Py_buffer *codes, const Py_buffer *scales,
                       const Py_buffer *zero_points) {
    size_t width = task->kind == F32 ? 4 : 2, elements = task->groups * task->columns;
    if (task->groups > 0 && task->columns > SIZE_MAX / 8 / task->groups) return 0;
    return (size_t)source->len == elements * width && (size_t)codes->len == elements * (size_t)task->bits / 8 &&
           (size_t)scales->len == task->groups * 2 &&
           (size_t)zero_points->len == (task->symmetric ? 0 : task->groups) &&
           (uintptr_t)source->buf % width == 0 && (uintptr_t)scales->buf % 2 == 0;
}

static PyObject *quantize(PyObject *self, PyObject *arguments) {
    Py_buffer source, codes, scales, zero_points;
    Task task;
    Py_ssize_t groups, columns;
    int outcome = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*inniiw*w*w*", &source, &task.kind, &groups, &columns, &task.bits,
                          &task.symmetric, &codes, &scales, &zero_points))
        return NULL;
    task.groups = (size_t)groups;
    task.columns = (size_t)columns;
    task.source = source.buf;
    task.codes = codes.buf;
    task.scales = scales.buf;
    task.zero_points = zero_points.buf;
    if (groups >= 0 && columns > 0 && (task.bits == 8 || (task.bits == 4 && columns % 2 == 0)) &&
        task.kind >= F16 && task.kind <= F32 && buffers_fit(&task, &source, &codes, &scales, &zero_points)) {
        Py_BEGIN_ALLOW_THREADS
        outcome = quantize_all(&task);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&source);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&scales);
    PyBuffer_Release(&zero_points);
    if (outcome < 0) {
        PyErr_SetString(PyExc_ValueError, "the buffers do not fit groups, columns and bits");
        return NULL;
    }
    return PyLong_FromLong(outcome);
}

static PyMethodDef methods[] = {{"quantize", quantize, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", VERSION); }

/* It has no state, so any number of interpreters and threads may be in it at once. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)add_version},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
