// Ridge fields V_i(x) = sigma_i(C_i x + b_i) on a tile: velocity and its transposed derivative.
#pragma once

#include "lanes.hpp"

namespace cde {

template <class T>
struct RidgeData {
    const T* matrices;     // C, (count, dim, dim)
    const T* offsets;      // b, (count, dim)
    const T* polynomials;  // sigma, (count, degree + 1), from degree 0 up
    Index dim, count, degree;

    Index rows() const { return padded(dim, PAD); }
    // Numbers of the panels of C, and of those of its transposes.
    Index forward_size() const { return count * rows() * dim; }
    Index backward_size() const { return rows() * count * rows(); }
    // Numbers of the weights of a stage: u_i times every coefficient of sigma_i, and the sum of the constant ones.
    Index weights() const { return count * (degree + 1) + 1; }
};

// What all threads read: C in panels, both ways round, b padded, and the coefficients of u_i sigma_i at every stage.
template <class T>
class RidgePanels {
  public:
    RidgePanels(const RidgeData<T>& data, const T* u, Index moments, bool both, Arena& arena) {
        const Index m = data.dim, mp = data.rows();
        arena.reset(Arena::bytes<T>(data.forward_size()) + Arena::bytes<T>(both ? data.backward_size() : 0) +
                    Arena::bytes<T>(data.count * mp) + Arena::bytes<T>(moments * data.weights()));
        T* forward = arena.take<T>(data.forward_size());
        for (Index i = 0; i < data.count; ++i)
            pack(data.matrices + i * m * m, m, m, m, Index(1), forward + i * mp * m);
        matrices = forward;
        if (both) {
            // One long sum over fields and their components: row c of the panels is column c of every C_i.
            T* backward = arena.take<T>(data.backward_size());
            in_blocks(mp, [&](auto block, Index c) CDE_ALWAYS {
                for (Index i = 0; i < data.count; ++i)
                    for (Index r = 0; r < mp; ++r)
                        for (int k = 0; k < block; ++k)
                            *backward++ = r < m && c + k < m ? data.matrices[(i * m + r) * m + c + k] : T(0);
            });
            transposed = backward - data.backward_size();
        }
        T* b = arena.take<T>(data.count * mp);
        for (Index i = 0; i < data.count; ++i)
            for (Index r = 0; r < mp; ++r) b[i * mp + r] = r < m ? data.offsets[i * m + r] : T(0);
        offsets = b;
        const Index terms = data.degree + 1;
        T* weight = arena.take<T>(moments * data.weights());
        weights = weight;
        for (Index n = 0; n < moments; ++n, u += data.count) {
            T constant = 0;
            for (Index i = 0; i < data.count; ++i) {
                constant += u[i] * data.polynomials[i * terms];
                for (Index k = 0; k < terms; ++k) *weight++ = u[i] * data.polynomials[i * terms + k];
            }
            *weight++ = constant;
        }
    }

    const T* matrices = nullptr;
    const T* transposed = nullptr;
    const T* offsets = nullptr;
    const T* weights = nullptr;
};

// DIM and TERMS are the dimension and the number of coefficients of sigma where they are known when this is compiled, else 0.
template <class T, int DIM, int TERMS>
class Ridge {
  public:
    using Number = T;
    using Data = RidgeData<T>;
    using Shared = RidgePanels<T>;
    // Tiles go through all depths one by one: everything that changes with the depth is small.
    static constexpr bool depth_by_depth = false;

    static std::size_t workspace(const Data& data, Index, bool backward) {
        return backward ? Arena::bytes<Vec<T>>(group(data) * data.rows() * NV) : 0;
    }

    Ridge(const Data& data, const Shared& shared, const T*, Index stages, bool backward, Arena& arena)
        : data_(data), shared_(shared), stages_(stages), weights_(shared.weights) {
        if (backward) inner_ = arena.take<Vec<T>>(group(data) * data.rows() * NV);
    }

    // Numbers a thread keeps of the control's gradient for one stage: they are summed over the lanes at the end.
    static Index moment_size(const Data& data) { return data.count * W<T>; }
    static constexpr bool lanes_apart = true, on_spheres = false;

    // Numbers of a tile's pre-activations at one stage, which may be held from the way there for the way back.
    static Index held_size(const Data& data) { return data.count * data.rows() * R<T>; }
    // Where those of a step's stages stand; null where none are held.
    void hold(T* held) { held_ = reinterpret_cast<Vec<T>*>(held); }

    void leave(T*) {}
    void enter(Index n) { weights_ = shared_.weights + n * stages_ * data_.weights(); }

    void velocity(Index j, const Vec<T>* __restrict x, Vec<T>* __restrict out) const {
        const Index m = dim(), mp = padded(m, PAD), terms = this->terms();
        const T* weight = weights_ + j * data_.weights();
        const Vec<T> constant = splat<T>(weight[data_.count * terms]);
        Vec<T>* const held = held_at(j);
        in_blocks(mp, [&](auto block, Index r) CDE_ALWAYS {
            constexpr int ROWS = block;
            Vec<T> total[ROWS][NV];
            for (auto& row : total)
                for (auto& v : row) v = constant;
            for (Index i = 0; i < data_.count; ++i) {
                Vec<T> z[ROWS][NV];
                preactivation<ROWS>(i, r, m, mp, x, z);
                if (held != nullptr)
                    for (int k = 0; k < ROWS; ++k)
                        for (int v = 0; v < NV; ++v) held[(i * mp + r + k) * NV + v] = z[k][v];
                const T* s = weight + i * terms;
                for (int k = 0; k < ROWS; ++k)
                    for (int v = 0; v < NV; ++v) {
                        Vec<T> value = splat<T>(s[terms - 1]);
                        for (Index p = terms - 2; p > 0; --p) value = value * z[k][v] + s[p];
                        total[k][v] += value * z[k][v];
                    }
            }
            for (int k = 0; k < ROWS; ++k)
                for (int v = 0; v < NV; ++v) out[(r + k) * NV + v] = total[k][v];
        });
    }

    // mu = D(velocity)(x)^T w, unless it is null, and <w, V_i(x)> summed over the tile, added to moments. x is not looked
    // at where pre-activations are held.
    void pullback(Index j, const Vec<T>* __restrict x, const Vec<T>* __restrict w, Vec<T>* __restrict mu,
                  T* __restrict moments) const {
        const Index m = dim(), mp = padded(m, PAD), terms = this->terms(), most = group(data_);
        const T* weight = weights_ + j * data_.weights();
        const Vec<T>* const held = held_at(j);
        for (Index first = 0; first < data_.count; first += most) {
            const Index last = first + most < data_.count ? first + most : data_.count;
            for (Index i = first; i < last; ++i) {
                const T* s = data_.polynomials + i * terms;
                const T* us = weight + i * terms;
                Vec<T>* inner = inner_ + (i - first) * mp * NV;
                Vec<T> sum[NV] = {};
                in_blocks(mp, [&](auto block, Index r) CDE_ALWAYS {
                    constexpr int ROWS = block;
                    Vec<T> z[ROWS][NV];
                    if (held == nullptr)
                        preactivation<ROWS>(i, r, m, mp, x, z);
                    else
                        for (int k = 0; k < ROWS; ++k)
                            for (int v = 0; v < NV; ++v) z[k][v] = held[(i * mp + r + k) * NV + v];
                    for (int k = 0; k < ROWS; ++k)
                        for (int v = 0; v < NV; ++v) {
                            const Vec<T> zv = z[k][v], wv = w[(r + k) * NV + v];
                            Vec<T> value = splat<T>(s[terms - 1]), slope = splat<T>((terms - 1) * us[terms - 1]);
                            for (Index p = terms - 2; p > 0; --p) {
                                value = value * zv + s[p];
                                slope = slope * zv + p * us[p];
                            }
                            sum[v] += wv * (value * zv + s[0]);
                            inner[(r + k) * NV + v] = wv * slope;
                        }
                });
                Vec<T>* total = reinterpret_cast<Vec<T>*>(moments) + i;
                *total += across<T>(sum);
            }
            if (mu == nullptr) continue;
            const Index depth = (last - first) * mp;
            in_blocks(mp, [&](auto block, Index c) CDE_ALWAYS {
                constexpr int ROWS = block;
                Vec<T> sum[ROWS][NV];
                for (int k = 0; k < ROWS; ++k)
                    for (int v = 0; v < NV; ++v) sum[k][v] = first ? mu[(c + k) * NV + v] : Vec<T>{};
                product<T, ROWS>(shared_.transposed + (c * data_.count + first * ROWS) * mp, inner_, depth, sum);
                for (int k = 0; k < ROWS; ++k)
                    for (int v = 0; v < NV; ++v) mu[(c + k) * NV + v] = sum[k][v];
            });
        }
    }

  private:
    Index dim() const { return DIM ? DIM : data_.dim; }
    Vec<T>* held_at(Index j) const { return held_ == nullptr ? nullptr : held_ + j * held_size(data_) / W<T>; }
    Index terms() const { return TERMS ? TERMS : data_.degree + 1; }

    // As many fields at a time as leave their part of the derivative in the nearest cache.
    static Index group(const Data& data) {
        const Index fit = 16384 / (data.rows() * R<T> * static_cast<Index>(sizeof(T)));
        return fit < 1 ? 1 : fit > data.count ? data.count : fit;
    }

    template <int ROWS>
    CDE_INLINE void preactivation(Index i, Index r, Index m, Index mp, const Vec<T>* __restrict x,
                                  Vec<T> (&z)[ROWS][NV]) const {
        for (int k = 0; k < ROWS; ++k)
            for (int v = 0; v < NV; ++v) z[k][v] = splat<T>(shared_.offsets[i * mp + r + k]);
        product<T, ROWS>(shared_.matrices + (i * mp + r) * m, x, m, z);
    }

    const Data& data_;
    const Shared& shared_;
    Index stages_;
    const T* weights_;
    Vec<T>* inner_ = nullptr;
    Vec<T>* held_ = nullptr;
};

}  // namespace cde
