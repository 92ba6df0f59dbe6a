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

    Index rows() const { return padded(dim, MR); }
    Index feature_rows() const { return padded(features, MR); }
    Index lanes() const { return padded(features, W<T>); }
    // Where x itself stands among the features.
    Index linear() const { return identity() ? 0 : 1; }
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
                     Arena::bytes<T>(data.lanes() * R<T>);
        return bytes;
    }

    Features(const Data& data, const Shared&, const T* u, Index stages, bool backward, Arena& arena)
        : data_(data), u_(u), stages_(stages) {
        forward_ = arena.take<T>(stages * data.rows() * data.features);
        phi_ = arena.take<Vec<T>>(data.lanes() * NV);
        if (backward) {
            backward_ = arena.take<T>(stages * data.feature_rows() * data.dim);
            g_ = arena.take<Vec<T>>(data.lanes() * NV);
            turned_ = arena.take<T>(data.lanes() * R<T>);
        }
    }

    static Index moment_size(const Data& data) { return data.dim * data.lanes(); }
    static constexpr bool lanes_apart = false;

    // W in panels at every stage of step n.
    void enter(Index n) {
        const Index m = data_.dim, F = data_.features;
        for (Index j = 0; j < stages_; ++j) {
            const T* w = u_ + (n * stages_ + j) * m * F;
            pack(w, m, F, F, Index(1), forward_ + j * data_.rows() * F);
            if (backward_ != nullptr) pack(w, F, m, Index(1), F, backward_ + j * data_.feature_rows() * m);
        }
    }

    void velocity(Index j, const Vec<T>* __restrict x, Vec<T>* __restrict out) const {
        const Vec<T>* phi = evaluate(x);
        multiply(forward_ + j * data_.rows() * data_.features, data_.rows(), data_.features, phi, out);
    }

    void pullback(Index j, const Vec<T>* __restrict x, const Vec<T>* __restrict w, Vec<T>* __restrict mu,
                  T* __restrict moments) const {
        const Vec<T>* phi = evaluate(x);
        moment(phi, w, moments);
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
        for (Index r = 0; r < rows; r += MR) {
            Vec<T> sum[MR][NV] = {};
            product<T>(panels + r * depth, x, depth, sum);
            for (int k = 0; k < MR; ++k)
                for (int v = 0; v < NV; ++v) out[(r + k) * NV + v] = sum[k][v];
        }
    }

    // moments[r][f] += sum over the tile's rows of w_r phi_f: features are turned into lanes, rows are summed over.
    void moment(const Vec<T>* __restrict phi, const Vec<T>* __restrict w, T* __restrict moments) const {
        const Index F = data_.features, lanes = data_.lanes(), m = data_.dim;
        for (Index f = 0; f < lanes; f += W<T>)
            for (int v = 0; v < NV; ++v) {
                Vec<T> block[W<T>];
                for (int k = 0; k < W<T>; ++k) block[k] = f + k < F ? phi[(f + k) * NV + v] : Vec<T>{};
                transpose<T>(block);
                for (int k = 0; k < W<T>; ++k)
                    std::memcpy(turned_ + (v * W<T> + k) * lanes + f, &block[k], sizeof(Vec<T>));
            }
        const T* scalars = reinterpret_cast<const T*>(w);
        constexpr int AT_ONCE = 2;
        for (Index f = 0; f < lanes; f += AT_ONCE * W<T>) {
            const int wide = f + W<T> < lanes ? AT_ONCE : 1;
            Index r = 0;
            if (wide == AT_ONCE)
                for (; r + 4 <= m; r += 4) outer<4, AT_ONCE>(scalars + r * R<T>, turned_ + f, lanes, moments + r * lanes + f);
            else
                for (; r + 4 <= m; r += 4) outer<4, 1>(scalars + r * R<T>, turned_ + f, lanes, moments + r * lanes + f);
            for (; r < m; ++r) {
                if (wide == AT_ONCE)
                    outer<1, AT_ONCE>(scalars + r * R<T>, turned_ + f, lanes, moments + r * lanes + f);
                else
                    outer<1, 1>(scalars + r * R<T>, turned_ + f, lanes, moments + r * lanes + f);
            }
        }
    }

    template <int ROWS, int WIDE>
    static CDE_INLINE void outer(const T* __restrict w, const T* __restrict turned, Index lanes, T* __restrict out) {
        Vec<T> sum[ROWS][WIDE] = {};
        for (Index k = 0; k < R<T>; ++k) {
            Vec<T> value[WIDE];
            std::memcpy(value, turned + k * lanes, sizeof(value));
            for (int r = 0; r < ROWS; ++r)
                for (int q = 0; q < WIDE; ++q) sum[r][q] += w[r * R<T> + k] * value[q];
        }
        for (int r = 0; r < ROWS; ++r) {
            Vec<T> before[WIDE];
            std::memcpy(before, out + r * lanes, sizeof(before));
            for (int q = 0; q < WIDE; ++q) before[q] += sum[r][q];
            std::memcpy(out + r * lanes, before, sizeof(before));
        }
    }

    const Data& data_;
    const T* u_;
    Index stages_;
    T* forward_;
    T* backward_ = nullptr;
    Vec<T>* phi_;
    Vec<T>* g_ = nullptr;
    T* turned_ = nullptr;
};

}  // namespace cde
