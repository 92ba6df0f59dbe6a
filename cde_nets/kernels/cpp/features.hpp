// Families with shared features, V_i(x) = A_i phi(x), phi all monomials of degree <= k, or x itself. The control has
// collapsed: a stage knows W = sum_i u_i A_i alone, and gives back sum over rows of w phi(x)^T.
#pragma once

#include "lanes.hpp"

namespace cde {

template <class T>
struct FeatureData {
    const std::int32_t* parent;    // of monomials of degree >= 2: feature f + 1 + dim is x[variable] phi[parent]
    const std::int32_t* variable;
    Index dim, features;

    Index rows() const { return padded(dim, PAD); }
    Index feature_rows() const { return padded(features, PAD); }
    Index lanes() const { return padded(features, W<T>); }
    // Vectors of the features turned into lanes, in strips of two.
    Index strips() const { return padded(features, 2 * W<T>) / W<T> * R<T>; }
    // Where x itself stands among the features.
    Index linear() const { return identity() ? 0 : 1; }
    // Whether sums of moments are kept lane by lane until a step is done: cheaper, as long as they are in the nearest cache.
    bool apart() const { return dim * features <= 1024; }
    // Whether phi(x) = x: constants would make one feature more.
    bool identity() const { return features == dim; }
};

// Every thread packs W at every step for itself: a small part of the work that it then does with it.
template <class T>
struct FeaturePanels {
    FeaturePanels(const FeatureData<T>&, const T*, Index, bool, Arena&) {}
};

template <class T>
class Features {
  public:
    using Number = T;
    using Data = FeatureData<T>;
    using Shared = FeaturePanels<T>;
    // All of a thread's tiles take a step before any takes the next: W and the moments are large, states are not.
    static constexpr bool depth_by_depth = true;

    static std::size_t workspace(const Data& data, Index stages, bool backward) {
        const Index forward = data.rows() * data.features, back = data.feature_rows() * data.dim;
        std::size_t bytes = Arena::bytes<T>(stages * forward) + Arena::bytes<Vec<T>>(data.lanes() * NV);
        if (backward)
            bytes += Arena::bytes<T>(stages * back) + Arena::bytes<Vec<T>>(data.lanes() * NV) +
                     (data.apart() ? Arena::bytes<Vec<T>>(stages * data.dim * data.features)
                                   : Arena::bytes<Vec<T>>(data.strips()));
        return bytes;
    }

    Features(const Data& data, const Shared&, const T* u, Index stages, bool backward, Arena& arena)
        : data_(data), u_(u), stages_(stages) {
        forward_ = arena.take<T>(stages * data.rows() * data.features);
        phi_ = arena.take<Vec<T>>(data.lanes() * NV);
        if (backward) {
            backward_ = arena.take<T>(stages * data.feature_rows() * data.dim);
            g_ = arena.take<Vec<T>>(data.lanes() * NV);
            if (data.apart()) {
                apart_ = arena.take<Vec<T>>(stages * data.dim * data.features);
                for (Index q = 0; q < stages * data.dim * data.features; ++q) apart_[q] = Vec<T>{};
            } else {
                turned_ = arena.take<Vec<T>>(data.strips());
            }
        }
    }

    // Nothing is held from the way there: features are cheaper to make again than to read.
    static Index held_size(const Data&) { return 0; }
    void hold(T*) {}

    static Index moment_size(const Data& data) { return data.dim * data.lanes(); }
    static constexpr bool lanes_apart = false, on_spheres = false;

    // W in panels at every stage of step n.
    void enter(Index n) {
        const Index m = data_.dim, F = data_.features;
        for (Index j = 0; j < stages_; ++j) {
            const T* w = u_ + (n * stages_ + j) * m * F;
            pack(w, m, F, F, Index(1), forward_ + j * data_.rows() * F);
            if (backward_ != nullptr) pack(w, F, m, Index(1), F, backward_ + j * data_.feature_rows() * m);
        }
    }

    // What all tiles have added at every stage of a step.
    void leave(T* moments) {
        if (apart_ == nullptr) return;
        Vec<T>* sum = apart_;
        for (Index j = 0; j < stages_; ++j, moments += moment_size(data_))
            for (Index r = 0; r < data_.dim; ++r)
                for (Index f = 0; f < data_.features; ++f, ++sum) {
                    moments[r * data_.lanes() + f] += lane_sum<T>(*sum);
                    *sum = Vec<T>{};
                }
    }

    void velocity(Index j, const Vec<T>* __restrict x, Vec<T>* __restrict out) const {
        const Vec<T>* phi = evaluate(x);
        multiply(forward_ + j * data_.rows() * data_.features, data_.rows(), data_.features, phi, out);
    }

    void pullback(Index j, const Vec<T>* __restrict x, const Vec<T>* __restrict w, Vec<T>* __restrict mu,
                  T* __restrict moments) const {
        const Vec<T>* phi = evaluate(x);
        if (apart_ == nullptr)
            moment(phi, w, moments);
        else
            add_apart(phi, w, apart_ + j * data_.dim * data_.features);
        if (mu == nullptr) return;
        const Index m = data_.dim, first = data_.linear();
        // Where phi(x) = x the product is the answer.
        Vec<T>* g = data_.identity() ? mu : g_;
        multiply(backward_ + j * data_.feature_rows() * m, data_.feature_rows(), m, w, g);
        if (data_.identity()) return;
        for (Index f = data_.features - 1; f > m; --f) {
            const Index q = f - 1 - m, parent = data_.parent[q], variable = data_.variable[q];
            for (int v = 0; v < NV; ++v) {
                const Vec<T> gv = g[f * NV + v];
                g[(first + variable) * NV + v] += gv * phi[parent * NV + v];
                g[parent * NV + v] += gv * x[variable * NV + v];
            }
        }
        for (Index q = 0; q < m * NV; ++q) mu[q] = g[first * NV + q];
        for (Index q = m * NV; q < data_.rows() * NV; ++q) mu[q] = Vec<T>{};
    }

  private:
    const Vec<T>* evaluate(const Vec<T>* __restrict x) const {
        if (data_.identity()) return x;
        const Index m = data_.dim;
        for (int v = 0; v < NV; ++v) phi_[v] = splat<T>(T(1));
        for (Index q = 0; q < m * NV; ++q) phi_[NV + q] = x[q];
        for (Index q = 0; q < data_.features - 1 - m; ++q) {
            const Vec<T>* a = phi_ + data_.parent[q] * NV;
            const Vec<T>* b = x + data_.variable[q] * NV;
            for (int v = 0; v < NV; ++v) phi_[(q + 1 + m) * NV + v] = a[v] * b[v];
        }
        return phi_;
    }

    static void multiply(const T* panels, Index rows, Index depth, const Vec<T>* __restrict x, Vec<T>* __restrict out) {
        in_blocks(rows, [&](auto block, Index r) CDE_ALWAYS {
            constexpr int ROWS = block;
            Vec<T> sum[ROWS][NV] = {};
            product<T, ROWS>(panels + r * depth, x, depth, sum);
            for (int k = 0; k < ROWS; ++k)
                for (int v = 0; v < NV; ++v) out[(r + k) * NV + v] = sum[k][v];
        });
    }

    // The same with the rows of a lane added up for themselves.
    void add_apart(const Vec<T>* __restrict phi, const Vec<T>* __restrict w, Vec<T>* __restrict sum) const {
        for (Index r = 0; r < data_.dim; ++r) {
            for (Index f = 0; f < data_.features; ++f) *sum++ += dot<T>(w + r * NV, phi + f * NV);
        }
    }

    // moments[r][f] += sum over the tile's rows of w_r phi_f: features are turned into lanes, rows are summed over. The
    // turned features stand in strips of WIDE vectors, row after row.
    void moment(const Vec<T>* __restrict phi, const Vec<T>* __restrict w, T* __restrict moments) const {
        const Index F = data_.features, lanes = data_.lanes(), m = data_.dim;
        for (Index f = 0; f < lanes; f += W<T>) {
            Vec<T>* strip = turned_ + f / (WIDE * W<T>) * WIDE * R<T> + f / W<T> % WIDE;
            for (int v = 0; v < NV; ++v) {
                Vec<T> block[W<T>];
                for (int k = 0; k < W<T>; ++k) block[k] = f + k < F ? phi[(f + k) * NV + v] : Vec<T>{};
                transpose<T>(block);
                for (int k = 0; k < W<T>; ++k) strip[(v * W<T> + k) * WIDE] = block[k];
            }
        }
        const T* scalars = reinterpret_cast<const T*>(w);
        for (Index f = 0; f < lanes; f += WIDE * W<T>) {
            const Vec<T>* strip = turned_ + f * R<T> / W<T>;
            const bool both = f + W<T> < lanes;
            Index r = 0;
            for (; r + 4 <= m; r += 4) outer<4>(scalars + r * R<T>, strip, both, lanes, moments + r * lanes + f);
            for (; r < m; ++r) outer<1>(scalars + r * R<T>, strip, both, lanes, moments + r * lanes + f);
        }
    }

    template <int ROWS>
    static CDE_INLINE void outer(const T* __restrict w, const Vec<T>* __restrict strip, bool both, Index lanes,
                                 T* __restrict out) {
        Vec<T> sum[ROWS][WIDE] = {};
        for (Index k = 0; k < R<T>; ++k) {
            const Vec<T> first = strip[k * WIDE], second = strip[k * WIDE + 1];
            for (int r = 0; r < ROWS; ++r) {
                const T scalar = w[r * R<T> + k];
                sum[r][0] += scalar * first;
                sum[r][1] += scalar * second;
            }
        }
        for (int r = 0; r < ROWS; ++r)
            for (int q = 0; q < (both ? WIDE : 1); ++q) {
                // Strips of the answer are aligned, as a row of it is a multiple of a vector.
                Vec<T>* place = reinterpret_cast<Vec<T>*>(out + r * lanes + q * W<T>);
                *place += sum[r][q];
            }
    }

    static constexpr int WIDE = 2;

    const Data& data_;
    const T* u_;
    Index stages_;
    T* forward_;
    T* backward_ = nullptr;
    Vec<T>* phi_;
    Vec<T>* g_ = nullptr;
    Vec<T>* turned_ = nullptr;
    Vec<T>* apart_ = nullptr;
};

}  // namespace cde
