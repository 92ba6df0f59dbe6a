// A tile of rows through all steps of an explicit Runge-Kutta method, and back by the adjoint recursion.
#pragma once

#include <atomic>
#include <cmath>
#include <limits>

#include "lanes.hpp"

namespace cde {

struct Steps {
    Index rows, count, stages, every;  // `every` how many steps a state is kept
    bool held;                         // instead of states, what a family's pullback needs of every stage
    bool sphere;                       // every step's end is put back on the sphere through its start; `every` is 1
    const double* widths;              // h, (count,)
    const double* a;                   // (stages, stages), strictly lower
    const double* b;                   // (stages,)

    Index slots() const { return (count + every - 1) / every; }
    // Spheres want the end, too; and of every step and row how much it was scaled by: behind all states.
    Index states() const { return slots() + sphere; }
};

constexpr Index MOST_STAGES = 16;

template <class T>
struct State {
    Mask<T> alive[NV], accepted[NV];
};

// One step of a tile: the stage states and slopes, and where it ends.
template <class Family, class T = typename Family::Number>
class Stepper {
  public:
    static std::size_t workspace(const typename Family::Data& data, const Steps& steps, bool backward) {
        const std::size_t tile = Arena::bytes<Vec<T>>(data.rows() * NV);
        return tile * static_cast<std::size_t>(steps.stages * (backward ? 3 : 1) + 2);
    }

    Stepper(Family& family, const typename Family::Data& data, const Steps& steps, bool backward, Arena& arena)
        : family_(family), steps_(steps), dim_(data.dim), size_(data.rows() * NV) {
        const Index kept = Arena::bytes<Vec<T>>(size_) / static_cast<Index>(sizeof(Vec<T>));
        stride_ = kept;
        slopes_ = arena.take<Vec<T>>(kept * steps.stages);
        states_ = arena.take<Vec<T>>(kept * (backward ? steps.stages : 1));
        w_ = arena.take<Vec<T>>(kept);
        if (backward) mu_ = arena.take<Vec<T>>(kept * steps.stages);
    }

    // The end of step n from x, in rows that are alive and stay finite; the others stay. scales: NV vectors, or null.
    void forward(Index n, const Vec<T>* x, Vec<T>* end, State<T>& state, Vec<T>* scales = nullptr) {
        const double h = steps_.widths[n];
        for (Index j = 0; j < steps_.stages; ++j) {
            const Vec<T>* at = along(x, h, steps_.a + j * steps_.stages, j, states_);
            family_.velocity(j, at, slopes_ + j * stride_);
        }
        const Vec<T>* moved = along(x, h, steps_.b, steps_.stages, w_);
        if (Family::on_spheres && steps_.sphere) moved = retract(x, moved, scales);
        // Zero times what is not finite is NaN.
        Vec<T> poison[NV] = {};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) poison[v] += T(0) * moved[r * NV + v];
        for (int v = 0; v < NV; ++v) {
            state.alive[v] &= poison[v] == poison[v];
            state.accepted[v] -= state.alive[v];
        }
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) {
                const Index q = r * NV + v;
                end[q] = state.alive[v] ? moved[q] : x[q];
            }
    }

    // p <- the cotangent of step n's start, unless nobody wants it, and the moments of its stages. x is not looked at where
    // stages are held; after is the end on the sphere, and scales what it was scaled by.
    void backward(Index n, const Vec<T>* x, Vec<T>* p, T* moments, Index moment_size, bool start_wanted,
                  const Vec<T>* after = nullptr, const Vec<T>* scales = nullptr) {
        const double h = steps_.widths[n];
        const Index s = steps_.stages;
        Vec<T> radial[NV] = {};
        if (Family::on_spheres && steps_.sphere) unproject(after, scales, p, radial);
        for (Index j = 0; j < s && !steps_.held; ++j) {
            at_[j] = along(x, h, steps_.a + j * s, j, states_ + j * stride_);
            if (j + 1 < s) family_.velocity(j, at_[j], slopes_ + j * stride_);
        }
        bool reached[MOST_STAGES] = {};
        for (Index j = s - 1; j >= 0; --j) {
            bool any = false;
            const auto add = [&](double by, const Vec<T>* what) {
                const T scale = static_cast<T>(h * by);
                for (Index q = 0; q < size_; ++q) w_[q] = any ? w_[q] + scale * what[q] : scale * what[q];
                any = true;
            };
            if (steps_.b[j] != 0) add(steps_.b[j], p);
            for (Index l = j + 1; l < s; ++l)
                if (reached[l] && steps_.a[l * s + j] != 0) add(steps_.a[l * s + j], mu_ + l * stride_);
            if (!any) continue;
            const bool wanted = j > 0 || start_wanted;
            family_.pullback(j, at_[j], w_, wanted ? mu_ + j * stride_ : nullptr, moments + j * moment_size);
            reached[j] = wanted;
        }
        for (Index j = 0; j < s; ++j)
            if (reached[j])
                for (Index q = 0; q < size_; ++q) p[q] += mu_[j * stride_ + q];
        if (Family::on_spheres && steps_.sphere)
            for (Index r = 0; r < dim_; ++r)
                for (int v = 0; v < NV; ++v) p[r * NV + v] += radial[v] * x[r * NV + v];
    }

  private:
    // z |x| / |z|, in z's place where that is this class's own: the origin stays, and a length that overflows is no number.
    const Vec<T>* retract(const Vec<T>* x, const Vec<T>* z, Vec<T>* scales) {
        Vec<T> radius[NV] = {}, length[NV] = {};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) {
                radius[v] += x[r * NV + v] * x[r * NV + v];
                length[v] += z[r * NV + v] * z[r * NV + v];
            }
        Vec<T> scale[NV] = {};
        constexpr T none = std::numeric_limits<T>::quiet_NaN();
        for (int v = 0; v < NV; ++v)
            for (int k = 0; k < W<T>; ++k)
                scale[v][k] = std::isinf(length[v][k]) ? none : radius[v][k] > 0 ? std::sqrt(radius[v][k] / length[v][k]) : T(0);
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) w_[r * NV + v] = z[r * NV + v] * scale[v];
        for (int v = 0; v < NV && scales != nullptr; ++v) scales[v] = scale[v];
        return w_;
    }

    // p, the cotangent of y, becomes that of z; x gets radial times itself. y is parallel to z and as long as x.
    void unproject(const Vec<T>* y, const Vec<T>* scales, Vec<T>* p, Vec<T> (&radial)[NV]) const {
        Vec<T> along[NV] = {}, square[NV] = {};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) {
                along[v] += p[r * NV + v] * y[r * NV + v];
                square[v] += y[r * NV + v] * y[r * NV + v];
            }
        for (int v = 0; v < NV; ++v) radial[v] = square[v] > Vec<T>{} ? along[v] / square[v] : Vec<T>{};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v)
                p[r * NV + v] = (p[r * NV + v] - radial[v] * y[r * NV + v]) * scales[v];
    }

    // x + h sum_l weights_l slopes_l: x itself where every weight is 0.
    const Vec<T>* along(const Vec<T>* x, double h, const double* weights, Index count, Vec<T>* out) const {
        const Vec<T>* from = x;
        for (Index l = 0; l < count; ++l) {
            if (weights[l] == 0) continue;
            const T scale = static_cast<T>(h * weights[l]);
            const Vec<T>* slope = slopes_ + l * stride_;
            for (Index q = 0; q < size_; ++q) out[q] = from[q] + scale * slope[q];
            from = out;
        }
        return from;
    }

    Family& family_;
    const Steps& steps_;
    Index dim_, size_, stride_;
    Vec<T>*slopes_, *states_, *w_, *mu_ = nullptr;
    const Vec<T>* at_[MOST_STAGES];
};

// A thread's share of the tiles.
struct Share {
    Index first, last;
    Share(Index tiles, Index thread, Index threads) : first(tiles * thread / threads), last(tiles * (thread + 1) / threads) {}
};

template <class T>
Index tile_count(const Steps& steps) {
    return padded(steps.rows, R<T>) / R<T>;
}

inline Arena& shared_arena() {
    static thread_local Arena arena;
    return arena;
}
inline Arena& own_arena() {
    static thread_local Arena arena;
    return arena;
}

// Run `work(thread, threads)` on as many threads as there are tiles for; false where memory ran out.
template <class Work>
bool in_threads(Index threads, Work&& work) {
    std::atomic<bool> good{true};
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(threads)) if (threads > 1)
    for (Index thread = 0; thread < threads; ++thread) {
        try {
            work(thread);
        } catch (const std::bad_alloc&) {
            good = false;
        }
    }
    return good;
}

// The moments of all threads, in the order of the threads: the same sum whoever was first.
template <class Family, class T = typename Family::Number>
void add_slabs(T* moments, Index slab, Index threads) {
    for (Index thread = 1; thread < threads; ++thread)
        for (Index q = 0; q < slab; ++q) moments[q] += moments[thread * slab + q];
    if constexpr (Family::lanes_apart)
        for (Index q = 0; q < slab / W<T>; ++q) {
            Vec<T> sum;
            std::memcpy(&sum, moments + q * W<T>, sizeof(sum));
            moments[q] = lane_sum<T>(sum);
        }
}

// Where NV vectors stand: what the rows of a tile were scaled by at the end of step n.
template <class T, class Data>
Vec<T>* scales_of(const Data& data, const Steps& steps, T* kept, Index tile, Index n) {
    T* behind = kept + tile_count<T>(steps) * steps.states() * data.dim * R<T>;
    return reinterpret_cast<Vec<T>*>(behind + (tile * steps.count + n) * R<T>);
}

// All steps. kept: (tiles, slots, dim, R), or what is held, (tiles, steps, stages, ..), or null.
template <class Family, class T = typename Family::Number>
bool run_forward(const typename Family::Data& data, const Steps& steps, Index threads, const T* x, const T* u, T* end,
                 std::int32_t* accepted, T* kept) {
    const Index tiles = tile_count<T>(steps), size = data.rows() * NV, dim = data.dim, slots = steps.states();
    if (threads > tiles) threads = tiles;
    const typename Family::Shared shared(data, u, steps.count * steps.stages, false, shared_arena());
    return in_threads(threads, [&](Index thread) {
        const Share share(tiles, thread, threads);
        const Index at_once = Family::depth_by_depth ? share.last - share.first : 1;
        Arena& arena = own_arena();
        arena.reset(Family::workspace(data, steps.stages, false) + Stepper<Family, T>::workspace(data, steps, false) +
                    Arena::bytes<Vec<T>>(at_once * size) + Arena::bytes<State<T>>(at_once));
        Family family(data, shared, u, steps.stages, false, arena);
        Stepper<Family, T> stepper(family, data, steps, false, arena);
        Vec<T>* states = arena.take<Vec<T>>(at_once * size);
        State<T>* state = arena.take<State<T>>(at_once);
        for (Index chunk = share.first; chunk < share.last; chunk += at_once) {
            for (Index t = 0; t < at_once; ++t) {
                const Index row = (chunk + t) * R<T>, count = steps.rows - row < R<T> ? steps.rows - row : R<T>;
                Vec<T>* here = states + t * size;
                load_rows<T>(x + row * dim, count, dim, here);
                for (Index q = dim * NV; q < size; ++q) here[q] = Vec<T>{};
                for (int v = 0; v < NV; ++v) {
                    Vec<T> poison{};
                    for (Index r = 0; r < dim; ++r) poison += T(0) * here[r * NV + v];
                    state[t].alive[v] = poison == poison;
                    state[t].accepted[v] = Mask<T>{};
                }
            }
            for (Index n = 0; n < steps.count; ++n) {
                family.enter(n);
                for (Index t = 0; t < at_once; ++t) {
                    Vec<T>* here = states + t * size;
                    Vec<T>* scales = nullptr;
                    if (Family::on_spheres && kept != nullptr && steps.sphere) scales = scales_of(data, steps, kept, chunk + t, n);
                    if (kept != nullptr && steps.held)
                        family.hold(kept + ((chunk + t) * steps.count + n) * steps.stages * Family::held_size(data));
                    else if (kept != nullptr && n % steps.every == 0)
                        std::memcpy(kept + ((chunk + t) * slots + n / steps.every) * dim * R<T>, here, dim * NV * sizeof(Vec<T>));
                    stepper.forward(n, here, here, state[t], scales);
                }
            }
            for (Index t = 0; t < at_once; ++t) {
                const Index row = (chunk + t) * R<T>, count = steps.rows - row < R<T> ? steps.rows - row : R<T>;
                store_rows<T>(states + t * size, count, dim, end + row * dim);
                if (Family::on_spheres && kept != nullptr && steps.sphere)
                    std::memcpy(kept + ((chunk + t) * slots + steps.count) * dim * R<T>, states + t * size, dim * NV * sizeof(Vec<T>));
                for (Index k = 0; k < count; ++k)
                    accepted[row + k] = static_cast<std::int32_t>(state[t].accepted[k / W<T>][k % W<T>]);
            }
        }
    });
}

// What is held of rows that failed becomes 0, where all fields are finite.
template <class T>
void calm(const State<T>& state, T* held, Index size) {
    bool all = true;
    for (int v = 0; v < NV; ++v)
        for (int k = 0; k < W<T>; ++k) all = all && state.alive[v][k];
    if (all) return;
    Vec<T>* z = reinterpret_cast<Vec<T>*>(held);
    for (Index q = 0; q < size / W<T>; ++q) z[q] = state.alive[q % NV] ? z[q] : Vec<T>{};
}

// The way back. moments: one slab of steps * stages * moment_size numbers a thread, the first of which is the answer;
// start: the cotangent of x, or null.
template <class Family, class T = typename Family::Number>
bool run_backward(const typename Family::Data& data, const Steps& steps, Index threads, const T* u, T* kept,
                  const std::int32_t* accepted, const T* cotangent, T* start, T* moments) {
    const Index tiles = tile_count<T>(steps), size = data.rows() * NV, dim = data.dim, slots = steps.slots();
    const Index kept_states = steps.states();
    const Index moment_size = Family::moment_size(data), slab = steps.count * steps.stages * moment_size;
    if (threads > tiles) threads = tiles;
    const typename Family::Shared shared(data, u, steps.count * steps.stages, true, shared_arena());
    const bool good = in_threads(threads, [&](Index thread) {
        const Share share(tiles, thread, threads);
        const Index at_once = Family::depth_by_depth ? share.last - share.first : 1;
        Arena& arena = own_arena();
        arena.reset(Family::workspace(data, steps.stages, true) + Stepper<Family, T>::workspace(data, steps, true) +
                    Arena::bytes<Vec<T>>(at_once * size * (steps.every + 1)) + Arena::bytes<State<T>>(at_once));
        Family family(data, shared, u, steps.stages, true, arena);
        Stepper<Family, T> stepper(family, data, steps, true, arena);
        Vec<T>* costates = arena.take<Vec<T>>(at_once * size * (steps.every + 1));
        Vec<T>* states = costates + at_once * size;
        State<T>* state = arena.take<State<T>>(at_once);
        T* own = moments + thread * slab;
        std::memset(own, 0, slab * sizeof(T));
        for (Index chunk = share.first; chunk < share.last; chunk += at_once) {
            for (Index t = 0; t < at_once; ++t) {
                const Index row = (chunk + t) * R<T>, count = steps.rows - row < R<T> ? steps.rows - row : R<T>;
                Vec<T>* p = costates + t * size;
                load_rows<T>(cotangent + row * dim, count, dim, p);
                for (Index q = dim * NV; q < size; ++q) p[q] = Vec<T>{};
                // Rows that failed give nothing: their cotangent is 0, and they stand where all fields are finite.
                for (Index k = 0; k < R<T>; ++k)
                    state[t].alive[k / W<T>][k % W<T>] = k < count && accepted[row + k] == steps.count ? -1 : 0;
                for (Index r = 0; r < dim; ++r)
                    for (int v = 0; v < NV; ++v) p[r * NV + v] = state[t].alive[v] ? p[r * NV + v] : Vec<T>{};
            }
            for (Index n = steps.count - 1; n >= 0 && steps.held; --n) {
                family.enter(n);
                for (Index t = 0; t < at_once; ++t) {
                    const Index size_of_step = steps.stages * Family::held_size(data);
                    T* held = kept + ((chunk + t) * steps.count + n) * size_of_step;
                    calm(state[t], held, size_of_step);
                    family.hold(held);
                    stepper.backward(n, nullptr, costates + t * size, own + n * steps.stages * moment_size, moment_size,
                                     n > 0 || start != nullptr);
                }
                family.leave(own + n * steps.stages * moment_size);
            }
            for (Index slot = slots - 1; slot >= 0 && !steps.held; --slot) {
                const Index first = slot * steps.every;
                const Index last = first + steps.every < steps.count ? first + steps.every : steps.count;
                for (Index t = 0; t < at_once; ++t) {
                    const Vec<T>* from = reinterpret_cast<const Vec<T>*>(kept + ((chunk + t) * kept_states + slot) * dim * R<T>);
                    Vec<T>* here = states + t * steps.every * size;
                    for (Index r = 0; r < dim; ++r)
                        for (int v = 0; v < NV; ++v) here[r * NV + v] = state[t].alive[v] ? from[r * NV + v] : Vec<T>{};
                    for (Index q = dim * NV; q < size; ++q) here[q] = Vec<T>{};
                }
                for (Index n = first; n + 1 < last; ++n) {
                    family.enter(n);
                    for (Index t = 0; t < at_once; ++t) {
                        Vec<T>* here = states + (t * steps.every + n - first) * size;
                        State<T> again = state[t];
                        stepper.forward(n, here, here + size, again);
                        for (Index q = dim * NV; q < size; ++q) here[size + q] = Vec<T>{};
                    }
                }
                for (Index n = last - 1; n >= first; --n) {
                    family.enter(n);
                    for (Index t = 0; t < at_once; ++t) {
                        const Vec<T>*after = nullptr, *scales = nullptr;
                        if (Family::on_spheres && steps.sphere) {
                            Vec<T>* by = scales_of(data, steps, kept, chunk + t, n);
                            for (int v = 0; v < NV; ++v) by[v] = state[t].alive[v] ? by[v] : Vec<T>{};
                            T* end = kept + ((chunk + t) * kept_states + n + 1) * dim * R<T>;
                            calm(state[t], end, dim * R<T>);
                            after = reinterpret_cast<const Vec<T>*>(end), scales = by;
                        }
                        stepper.backward(n, states + (t * steps.every + n - first) * size, costates + t * size,
                                         own + n * steps.stages * moment_size, moment_size, n > 0 || start != nullptr,
                                         after, scales);
                    }
                    family.leave(own + n * steps.stages * moment_size);
                }
            }
            if (start != nullptr)
                for (Index t = 0; t < at_once; ++t) {
                    const Index row = (chunk + t) * R<T>, count = steps.rows - row < R<T> ? steps.rows - row : R<T>;
                    store_rows<T>(costates + t * size, count, dim, start + row * dim);
                }
        }
    });
    add_slabs<Family>(moments, slab, threads);
    return good;
}

}  // namespace cde
