// Fields on images with shared features, V_i(x) = K_i * phi(x) + b_i, phi one polynomial entry by entry, * the zero-padded
// correlation. The control has collapsed: a stage knows K = sum_i u_i K_i and b alone, and gives back their cotangents.
//
// States stand as (height, width, channels): the pixels that a row of a kernel meets lie side by side, so that a pixel of
// the answer is a few products of the kind that `lanes.hpp` has.
#pragma once

#include "lanes.hpp"

namespace cde {

template <class T>
struct ConvData {
    const T* inner;  // phi, (terms,), from degree 0 up
    Index terms, dim, channels, height, width, size;

    Index rows() const { return padded(dim, PAD); }
    Index depth() const { return size * size * channels; }
    // Of a row of the drive: the kernel in the order (row, column, channel), and the offset.
    Index features() const { return depth() + 1; }
    Index panel() const { return padded(channels, PAD) * depth(); }
    // An image with a border of zeros, in vectors.
    Index stride() const { return (width + size - 1) * channels * NV; }
    Index framed() const { return (height + size - 1) * stride(); }
};

template <class T>
struct ConvPanels {
    ConvPanels(const ConvData<T>&, const T*, Index, bool, Arena&) {}
};

// work(Rows<N>, r) for r = 0 .. count - 1 in blocks of 4, then 2 and 1.
template <class Work>
CDE_INLINE void in_fours(Index count, Work&& work) {
    Index r = 0;
    for (; r + 4 <= count; r += 4) work(Rows<4>{}, r);
    for (; r + 2 <= count; r += 2) work(Rows<2>{}, r);
    for (; r < count; ++r) work(Rows<1>{}, r);
}

template <class T>
class Conv {
  public:
    using Number = T;
    using Data = ConvData<T>;
    using Shared = ConvPanels<T>;
    static constexpr bool depth_by_depth = false;
    static constexpr bool lanes_apart = true, on_spheres = true;

    static std::size_t workspace(const Data& data, Index stages, bool backward) {
        const Index times = backward ? 2 : 1;
        return Arena::bytes<T>(times * stages * data.panel()) + Arena::bytes<Vec<T>>(times * data.framed());
    }

    Conv(const Data& data, const Shared&, const T* u, Index stages, bool backward, Arena& arena)
        : data_(data), u_(u), stages_(stages), backward_(backward) {
        const Index times = backward ? 2 : 1;
        panels_ = arena.take<T>(times * stages * data.panel());
        phi_ = arena.take<Vec<T>>(times * data.framed());
        for (Index q = 0; q < times * data.framed(); ++q) phi_[q] = Vec<T>{};
        g_ = phi_ + data.framed();
    }

    static Index moment_size(const Data& data) { return data.channels * data.features() * W<T>; }
    static Index held_size(const Data&) { return 0; }
    void hold(T*) {}
    void leave(T*) {}

    // The kernel at every stage of step n in panels, and turned round for the way back.
    void enter(Index n) {
        const Index C = data_.channels, k = data_.size, depth = data_.depth();
        step_ = u_ + n * stages_ * C * data_.features();
        for (Index j = 0; j < stages_; ++j) {
            const T* kernel = step_ + j * C * data_.features();
            pack(kernel, C, depth, data_.features(), Index(1), panels_ + j * data_.panel());
            if (!backward_) continue;
            // Row c, at (row, column, o): the kernel of o at the opposite tap, channel c.
            T* turned = panels_ + (stages_ + j) * data_.panel();
            in_blocks(padded(C, PAD), [&](auto block, Index c) {
                for (Index tap = k * k - 1; tap >= 0; --tap)
                    for (Index o = 0; o < C; ++o)
                        for (int r = 0; r < block; ++r)
                            *turned++ = c + r < C ? kernel[o * data_.features() + tap * C + c + r] : T(0);
            });
        }
    }

    void velocity(Index j, const Vec<T>* __restrict x, Vec<T>* __restrict out) const {
        features(x);
        const T* offsets = step_ + j * data_.channels * data_.features() + data_.depth();
        correlate(panels_ + j * data_.panel(), phi_, offsets, [&](Index q, Vec<T> sum) CDE_ALWAYS { out[q] = sum; });
        for (Index q = data_.dim * NV; q < data_.rows() * NV; ++q) out[q] = Vec<T>{};
    }

    void pullback(Index j, const Vec<T>* __restrict x, const Vec<T>* __restrict w, Vec<T>* __restrict mu,
                  T* __restrict moments) const {
        features(x);
        add_moments(w, reinterpret_cast<Vec<T>*>(moments));
        if (mu == nullptr) return;
        frame(g_, [&](Index q) CDE_ALWAYS { return w[q]; });
        const T* slopes = data_.inner;
        correlate(panels_ + (stages_ + j) * data_.panel(), g_, nullptr, [&](Index q, Vec<T> sum) CDE_ALWAYS {
            Vec<T> slope = splat<T>((data_.terms - 1) * slopes[data_.terms - 1]);
            for (Index p = data_.terms - 2; p > 0; --p) slope = slope * x[q] + p * slopes[p];
            mu[q] = sum * slope;
        });
        for (Index q = data_.dim * NV; q < data_.rows() * NV; ++q) mu[q] = Vec<T>{};
    }

  private:
    // Numbers of an image into its frame.
    template <class Number>
    CDE_INLINE void frame(Vec<T>* __restrict framed, Number&& number) const {
        const Index border = data_.size / 2, run = data_.width * data_.channels * NV;
        for (Index h = 0; h < data_.height; ++h) {
            Vec<T>* here = framed + (h + border) * data_.stride() + border * data_.channels * NV;
            for (Index q = 0; q < run; ++q) here[q] = number(h * run + q);
        }
    }

    CDE_INLINE void features(const Vec<T>* __restrict x) const {
        const T* s = data_.inner;
        frame(phi_, [&](Index q) CDE_ALWAYS {
            Vec<T> value = splat<T>(s[data_.terms - 1]);
            for (Index p = data_.terms - 2; p >= 0; --p) value = value * x[q] + s[p];
            return value;
        });
    }

    // done(q, sum) for every number of the correlation of a framed image with a kernel.
    template <class Done>
    CDE_INLINE void correlate(const T* panels, const Vec<T>* __restrict framed, const T* offsets, Done&& done) const {
        const Index C = data_.channels, k = data_.size, depth = data_.depth(), run = k * C;
        for (Index h = 0; h < data_.height; ++h)
            for (Index w = 0; w < data_.width; ++w) {
                const Vec<T>* corner = framed + h * data_.stride() + w * C * NV;
                const Index pixel = (h * data_.width + w) * C;
                in_blocks(padded(C, PAD), [&](auto block, Index o) CDE_ALWAYS {
                    constexpr int ROWS = block;
                    Vec<T> sum[ROWS][NV];
                    for (int r = 0; r < ROWS; ++r)
                        for (int v = 0; v < NV; ++v)
                            sum[r][v] = offsets != nullptr && o + r < C ? splat<T>(offsets[(o + r) * data_.features()]) : Vec<T>{};
                    for (Index dy = 0; dy < k; ++dy)
                        product<T, ROWS>(panels + o * depth + dy * run * ROWS, corner + dy * data_.stride(), run, sum);
                    for (int r = 0; r < ROWS; ++r)
                        for (int v = 0; v < NV && o + r < C; ++v) done((pixel + o + r) * NV + v, sum[r][v]);
                });
            }
    }

    // moments[o][tap, c] += sum over pixels and vectors of w_o phi_c at the tap, and of w_o for the offset.
    void add_moments(const Vec<T>* __restrict w, Vec<T>* __restrict moments) const {
        const Index C = data_.channels, k = data_.size;
        in_fours(C, [&](auto outputs, Index o) CDE_ALWAYS {
            constexpr int OUT = outputs;
            for (Index dy = 0; dy < k; ++dy)
                for (Index dx = 0; dx < k; ++dx)
                    in_fours(C, [&](auto inputs, Index c) CDE_ALWAYS {
                        constexpr int IN = inputs;
                        Vec<T> sum[OUT][IN] = {};
                        for (Index h = 0; h < data_.height; ++h) {
                            const Vec<T>* a = w + (h * data_.width * C + o) * NV;
                            const Vec<T>* b = phi_ + (h + dy) * data_.stride() + (dx * C + c) * NV;
                            for (Index x = 0; x < data_.width; ++x, a += C * NV, b += C * NV)
                                for (int v = 0; v < NV; ++v)
                                    for (int p = 0; p < OUT; ++p)
                                        for (int q = 0; q < IN; ++q) sum[p][q] += a[p * NV + v] * b[q * NV + v];
                        }
                        for (int p = 0; p < OUT; ++p)
                            for (int q = 0; q < IN; ++q)
                                moments[(o + p) * data_.features() + (dy * k + dx) * C + c + q] += sum[p][q];
                    });
            for (int p = 0; p < OUT; ++p) {
                Vec<T> sum{};
                for (Index pixel = 0; pixel < data_.height * data_.width; ++pixel)
                    for (int v = 0; v < NV; ++v) sum += w[(pixel * C + o + p) * NV + v];
                moments[(o + p) * data_.features() + data_.depth()] += sum;
            }
        });
    }

    const Data& data_;
    const T* u_;
    const T* step_ = nullptr;
    Index stages_;
    bool backward_;
    T* panels_;
    Vec<T>*phi_, *g_;
};

}  // namespace cde
