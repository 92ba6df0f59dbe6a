// What stands between the library's matrix products where ridge fields are too large for a tile: one pass over the
// products z = C x, shape (count, dim, rows), instead of one for each operation. Rows lie side by side, as such products
// are faster, and as a component's offset then meets them all.
#pragma once

#include "lanes.hpp"

namespace cde {

// Components are shared out to threads in equal parts, so that sums do not depend on who was first.
template <class Work>
void over_components(Index dim, Index threads, Work&& work) {
    if (threads > dim) threads = dim;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(threads)) if (threads > 1)
    for (Index thread = 0; thread < threads; ++thread)
        work(thread, dim * thread / threads, dim * (thread + 1) / threads);
}

template <class T>
struct Wide {
    const T *u, *offsets, *sigma;
    Index rows, count, dim, terms, threads;
};

// out = sum_i u_i sigma_i(z_i + b_i), shape (dim, rows).
template <class T, int TERMS>
void ridge_velocity(const T* z, const Wide<T>& f, T* out) {
    const Index terms = TERMS ? TERMS : f.terms;
    over_components(f.dim, f.threads, [&](Index, Index first, Index last) {
        for (Index r = first; r < last; ++r) {
            T* __restrict total = out + r * f.rows;
            for (Index i = 0; i < f.count; ++i) {
                const T* __restrict here = z + (i * f.dim + r) * f.rows;
                const T *s = f.sigma + i * terms, offset = f.offsets[i * f.dim + r], u = f.u[i];
                for (Index b = 0; b < f.rows; ++b) {
                    const T at = here[b] + offset;
                    T value = s[terms - 1];
                    for (Index k = terms - 2; k >= 0; --k) value = value * at + s[k];
                    total[b] = i ? total[b] + u * value : u * value;
                }
            }
        }
    });
}

// z <- u_i w sigma_i'(z_i + b_i), of which the product with C is the transposed derivative, and sums over rows and
// components of <w, sigma_i(z_i + b_i)> in a slab of `count` numbers a thread.
template <class T, int TERMS>
void ridge_pullback(T* z, const T* w, const Wide<T>& f, T* slabs) {
    const Index terms = TERMS ? TERMS : f.terms;
    over_components(f.dim, f.threads, [&](Index thread, Index first, Index last) {
        T* own = slabs + thread * f.count;
        for (Index i = 0; i < f.count; ++i) own[i] = T(0);
        for (Index r = first; r < last; ++r) {
            const T* __restrict by = w + r * f.rows;
            for (Index i = 0; i < f.count; ++i) {
                T* __restrict here = z + (i * f.dim + r) * f.rows;
                const T *s = f.sigma + i * terms, offset = f.offsets[i * f.dim + r], u = f.u[i];
                // As many sums as lanes: the compiler may not reorder one.
                constexpr int LANES = W<T>;
                T sums[LANES] = {};
                Index b = 0;
                const auto one = [&](Index row, T& sum) {
                    const T at = here[row] + offset;
                    T value = s[terms - 1], slope = T(0);
                    for (Index k = terms - 2; k >= 0; --k) {
                        slope = slope * at + value;
                        value = value * at + s[k];
                    }
                    sum += by[row] * value;
                    here[row] = u * by[row] * slope;
                };
                for (; b + LANES <= f.rows; b += LANES)
                    for (int lane = 0; lane < LANES; ++lane) one(b + lane, sums[lane]);
                for (; b < f.rows; ++b) one(b, sums[0]);
                for (int lane = 0; lane < LANES; ++lane) own[i] += sums[lane];
            }
        }
    });
}

}  // namespace cde
