// Rows in SIMD lanes: vectors, tiles of rows, and the two small matrix products that everything is made of.
//
// A tile holds R = NV * W rows; a quantity of m numbers a row is stored as m groups of NV vectors, so that a scalar of a
// matrix meets R rows at once. Only compiler vectors are used: the instruction set is the one the file is compiled for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#define CDE_VECTOR_BYTES 64
#elif defined(__AVX__)
#define CDE_VECTOR_BYTES 32
#else
#define CDE_VECTOR_BYTES 16
#endif

// After the parameters of a lambda: called out of line it reaches all that it captures through memory, which costs small
// dimensions a third of their speed.
#define CDE_ALWAYS __attribute__((always_inline))
#define CDE_INLINE inline CDE_ALWAYS

namespace cde {

using Index = std::int64_t;

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
    typedef float Vector __attribute__((vector_size(CDE_VECTOR_BYTES)));
    typedef std::int32_t Mask __attribute__((vector_size(CDE_VECTOR_BYTES)));
};
template <>
struct Lanes<double> {
    typedef double Vector __attribute__((vector_size(CDE_VECTOR_BYTES)));
    typedef std::int64_t Mask __attribute__((vector_size(CDE_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Lanes<T>::Vector;
template <class T>
using Mask = typename Lanes<T>::Mask;

// Lanes of a vector.
template <class T>
constexpr int W = CDE_VECTOR_BYTES / static_cast<int>(sizeof(T));
// Vectors of a tile, and rows of a matrix that a product takes at once. A matrix's number meets NV vectors, a vector MR
// numbers, and MR * NV sums stay in registers: as many as the units' latency needs, and few enough that the rest of a
// product fits beside them. With 32 wide registers tiles are half as many vectors, so that small batches fill them and
// give each thread one.
#if defined(__AVX512F__)
constexpr int NV = 2;
constexpr int MR = 4;
#else
constexpr int NV = 4;
constexpr int MR = 3;
#endif
// Matrices have a multiple of so many rows, padded with zeros.
constexpr int PAD = 2;
template <class T>
constexpr int R = NV * W<T>;

constexpr Index padded(Index n, Index to) { return (n + to - 1) / to * to; }

template <int N>
using Rows = std::integral_constant<int, N>;

// work(Rows<N>, r) for the rows r, r + 1, .. of a matrix, block by block: MR at once, and the last in twos.
template <class Work>
CDE_INLINE void in_blocks(Index rows, Work&& work) {
    Index r = 0;
    for (; r + MR <= rows && r + MR + 1 != rows; r += MR) work(Rows<MR>{}, r);
    for (; r < rows; r += 2) work(Rows<2>{}, r);
}

template <class T>
CDE_INLINE Vec<T> splat(T value) {
    return value - Vec<T>{};
}

template <class T>
CDE_INLINE T lane_sum(Vec<T> v) {
    T total = 0;
    for (int k = 0; k < W<T>; ++k) total += v[k];
    return total;
}

// The sum of a tile's vectors, and that of their products.
template <class T>
CDE_INLINE Vec<T> across(const Vec<T> (&v)[NV]) {
    Vec<T> total = v[0];
    for (int k = 1; k < NV; ++k) total += v[k];
    return total;
}
template <class T>
CDE_INLINE Vec<T> dot(const Vec<T>* a, const Vec<T>* b) {
    Vec<T> total = a[0] * b[0];
    for (int v = 1; v < NV; ++v) total += a[v] * b[v];
    return total;
}

// Memory that a thread keeps between calls: fresh pages cost more than a small solve.
class Arena {
  public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { std::free(memory_); }

    void reset(std::size_t bytes) {
        if (bytes > size_) {
            std::free(memory_);
            size_ = 0;
            memory_ = static_cast<char*>(std::aligned_alloc(64, padded(bytes, 64)));
            if (memory_ == nullptr) throw std::bad_alloc();
            size_ = bytes;
        }
        used_ = 0;
    }
    template <class S>
    S* take(Index count) {
        S* found = reinterpret_cast<S*>(memory_ + used_);
        used_ += bytes<S>(count);
        return found;
    }
    template <class S>
    static std::size_t bytes(Index count) {
        return padded(count * static_cast<Index>(sizeof(S)), 64);
    }

  private:
    char* memory_ = nullptr;
    std::size_t size_ = 0, used_ = 0;
};

// sum[r] += sum_k a[k][r] x[k] for ROWS rows r of a matrix: a is a panel, ROWS numbers for each k.
template <class T, int ROWS>
CDE_INLINE void product(const T* __restrict a, const Vec<T>* __restrict x, Index depth, Vec<T> (&sum)[ROWS][NV]) {
    for (Index k = 0; k < depth; ++k) {
        for (int r = 0; r < ROWS; ++r) {
            const T scalar = a[k * ROWS + r];
            for (int v = 0; v < NV; ++v) sum[r][v] += scalar * x[k * NV + v];
        }
    }
}

// Panels of a matrix of `rows` x `depth` numbers, element (r, k) at r * row_stride + k * depth_stride; rows are padded
// with zeros. The panel of row r begins at r * depth.
template <class T>
void pack(const T* matrix, Index rows, Index depth, Index row_stride, Index depth_stride, T* panels) {
    in_blocks(padded(rows, PAD), [&](auto block, Index p) CDE_ALWAYS {
        for (Index k = 0; k < depth; ++k)
            for (int r = 0; r < block; ++r)
                *panels++ = p + r < rows ? matrix[(p + r) * row_stride + k * depth_stride] : T(0);
    });
}

// total += one row of numbers, state by state: a[m][R] -> rows of memory, and back.
template <class T>
void load_rows(const T* rows, Index count, Index dim, Vec<T>* tile) {
    T* out = reinterpret_cast<T*>(tile);
    for (Index c = 0; c < dim; ++c)
        for (Index k = 0; k < R<T>; ++k) out[c * R<T> + k] = k < count ? rows[k * dim + c] : T(0);
}

template <class T>
void store_rows(const Vec<T>* tile, Index count, Index dim, T* rows) {
    const T* in = reinterpret_cast<const T*>(tile);
    for (Index k = 0; k < count; ++k)
        for (Index c = 0; c < dim; ++c) rows[k * dim + c] = in[c * R<T> + k];
}

namespace detail {
// One round of a transposition: lanes whose bit S is set change places between a and b.
template <class T, int S, int... L>
CDE_INLINE void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, L...>) {
    const Vec<T> low = __builtin_shufflevector(a, b, ((L & S) == 0 ? L : W<T> + L - S)...);
    const Vec<T> high = __builtin_shufflevector(a, b, ((L & S) == 0 ? L + S : W<T> + L)...);
    a = low;
    b = high;
}
template <class T, int S>
CDE_INLINE void rounds(Vec<T> (&block)[W<T>]) {
    if constexpr (S < W<T>) {
        for (int k = 0; k < W<T>; ++k)
            if ((k & S) == 0) exchange<T, S>(block[k], block[k + S], std::make_integer_sequence<int, W<T>>{});
        rounds<T, 2 * S>(block);
    }
}
}  // namespace detail

// W vectors as a W x W matrix, transposed.
template <class T>
CDE_INLINE void transpose(Vec<T> (&block)[W<T>]) {
    detail::rounds<T, 1>(block);
}

}  // namespace cde
