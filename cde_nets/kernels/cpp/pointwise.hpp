// What stands between the library's matrix products where ridge fields are too large for a tile: one pass over the
// pre-activations z = C x + b, shape (rows, count, dim), instead of one for each operation.
#pragma once

#include "lanes.hpp"

namespace cde {

// Rows are shared out to threads in equal parts, so that sums do not depend on who was first.
template <class Work>
void over_rows(Index rows, Index threads, Work&& work) {
    if (threads > rows) threads = rows;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(threads)) if (threads > 1)
    for (Index thread = 0; thread < threads; ++thread)
        work(thread, rows * thread / threads, rows * (thread + 1) / threads);
}

// out = sum_i u_i sigma_i(z_i), shape (rows, dim).
template <class T, int TERMS>
void ridge_velocity(const T* z, const T* u, const T* sigma, Index rows, Index count, Index dim, Index given_terms,
                    Index threads, T* out) {
    const Index terms = TERMS ? TERMS : given_terms;
    over_rows(rows, threads, [&](Index, Index first, Index last) {
        for (Index b = first; b < last; ++b) {
            T* __restrict total = out + b * dim;
            for (Index r = 0; r < dim; ++r) total[r] = T(0);
            for (Index i = 0; i < count; ++i) {
                const T* __restrict here = z + (b * count + i) * dim;
                const T* s = sigma + i * terms;
                for (Index r = 0; r < dim; ++r) {
                    T value = s[terms - 1];
                    for (Index k = terms - 2; k >= 0; --k) value = value * here[r] + s[k];
                    total[r] += u[i] * value;
                }
            }
        }
    });
}

// z <- u_i w sigma_i'(z_i), of which the product with C is the transposed derivative, and sums over rows of
// <w, sigma_i(z_i)> in a slab of `count` numbers a thread.
template <class T, int TERMS>
void ridge_pullback(T* z, const T* w, const T* u, const T* sigma, Index rows, Index count, Index dim, Index given_terms,
                    Index threads, T* slabs) {
    const Index terms = TERMS ? TERMS : given_terms;
    over_rows(rows, threads, [&](Index thread, Index first, Index last) {
        T* own = slabs + thread * count;
        for (Index i = 0; i < count; ++i) own[i] = T(0);
        for (Index b = first; b < last; ++b) {
            const T* __restrict by = w + b * dim;
            for (Index i = 0; i < count; ++i) {
                T* __restrict here = z + (b * count + i) * dim;
                const T* s = sigma + i * terms;
                // As many sums as lanes: the compiler may not reorder one.
                constexpr int LANES = W<T>;
                T sums[LANES] = {};
                Index r = 0;
                const auto one = [&](Index at, T& sum) {
                    T value = s[terms - 1], slope = T(0);
                    for (Index k = terms - 2; k >= 0; --k) {
                        slope = slope * here[at] + value;
                        value = value * here[at] + s[k];
                    }
                    sum += by[at] * value;
                    here[at] = u[i] * by[at] * slope;
                };
                for (; r + LANES <= dim; r += LANES)
                    for (int lane = 0; lane < LANES; ++lane) one(r + lane, sums[lane]);
                for (; r < dim; ++r) one(r, sums[0]);
                for (int lane = 0; lane < LANES; ++lane) own[i] += sums[lane];
            }
        }
    });
}

}  // namespace cde
