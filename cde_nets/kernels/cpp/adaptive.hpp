// Rows that choose their steps by an embedded error estimate, each by itself, through a control that is constant between
// breakpoints; and back over the steps they took.
//
// Lanes are filled anew as rows arrive at a breakpoint: all lanes of a tile share the piece of the control, and with it
// the coefficients, but neither the time nor the width of a step. A row's numbers do not depend on its neighbours.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "walk.hpp"

namespace cde {

// The rules are those of the plain version: `cde_nets.solver.flow.adaptive` and its PI controller.
struct Rules {
    Index rows, pieces, stages, most;  // most: of the steps tried a row
    bool same;                         // the last stage of a step is the first of the next
    double begin;                      // the time where all rows start
    const double* ends;                // the breakpoints and the end, (pieces,)
    const double *a, *b, *error;       // (stages, stages), (stages,), (stages,)
    double order, proportional, integral, safety, shrink, grow;
    double first;  // the first width; chosen for each row where 0
    double rtol, atol;

    double direction() const { return ends[pieces - 1] > begin ? 1.0 : -1.0; }
    double start_of(Index piece) const { return piece ? ends[piece - 1] : begin; }
    double span() const { return std::abs(ends[pieces - 1] - begin); }
    // The least width that times resolve.
    double least() const {
        const double scale = std::max({std::abs(begin), std::abs(ends[pieces - 1]), span()});
        return 8 * std::numeric_limits<double>::epsilon() * scale;
    }
    // Stages after the last weight that is not 0 are of no use to the way back.
    Index needed() const {
        Index last = stages;
        while (last > 1 && b[last - 1] == 0) --last;
        return last;
    }
};

// As `cde_nets.solver.status`.
enum Ended : std::int32_t { RUNNING = 0, DONE = 1, MAX_STEPS = 4, DIVERGED = 5, STEP_TOO_SMALL = 6 };

// How much wider than the controller's a step may be to land on a breakpoint.
constexpr double SLIVER = 1e-3;
// Errors below the first count as that much, and the last accepted one, of which the logarithm is kept, as exp(LEAST).
const double TINY = std::pow(std::numeric_limits<double>::min(), 0.25), LEAST = std::log(1e-4);

// The accepted steps of a thread's rows: where each began, how wide it was, and the row's step before it.
template <class T>
class Path {
  public:
    struct Entry {
        Index before;  // -1 where there is none
        Index piece;
        T width;
    };

    explicit Path(Index dim)
        : bytes_(padded(sizeof(Entry) + dim * sizeof(T), alignof(Entry))), each_(std::max<Index>(1, CHUNK / bytes_)) {}

    Index add(Index before, Index piece, T width) {
        if (count_ % each_ == 0) chunks_.emplace_back(new char[each_ * bytes_]);
        new (place(count_)) Entry{before, piece, width};
        return count_++;
    }
    const Entry& entry(Index k) const { return *reinterpret_cast<const Entry*>(place(k)); }
    T* state(Index k) const { return reinterpret_cast<T*>(place(k) + sizeof(Entry)); }

  private:
    static constexpr Index CHUNK = 1 << 20;
    char* place(Index k) const { return chunks_[k / each_].get() + k % each_ * bytes_; }

    Index bytes_, each_, count_ = 0;
    std::vector<std::unique_ptr<char[]>> chunks_;
};

// What the way back needs of the way there.
template <class T>
struct Journey {
    std::vector<Path<T>> paths;  // one a thread
    std::vector<Index> last;     // a row's last step, in the path of its thread; -1 where it failed

    // Step after step, (steps, rows); nothing where a row has none.
    void write(const std::int32_t* accepted, T* widths, Index* pieces) const {
        const Index rows = static_cast<Index>(last.size()), threads = static_cast<Index>(paths.size());
        for (Index row = 0; row < rows; ++row) {
            const Path<T>& path = paths[row % threads];
            Index n = accepted[row];
            for (Index k = last[row]; k >= 0; k = path.entry(k).before) {
                --n;
                widths[n * rows + row] = path.entry(k).width;
                pieces[n * rows + row] = path.entry(k).piece;
            }
        }
    }
};

// Neighbouring rows are often alike: every thread takes one of so many.
struct Every {
    Index first, step, rows;
    Index count() const { return first < rows ? (rows - first + step - 1) / step : 0; }
    Index row(Index k) const { return first + k * step; }
};

// Rows in the lanes of a tile.
template <class T>
class Occupied {
  public:
    Occupied() { std::fill(row, row + R<T>, -1); }
    Index row[R<T>];
    Index count = 0;

    void enter(Index lane, Index which) {
        row[lane] = which;
        ++count;
    }
    void leave(Index lane) {
        row[lane] = -1;
        --count;
    }
};

template <class T>
CDE_INLINE T& lane_of(Vec<T>* tile, Index component, Index lane) {
    return reinterpret_cast<T*>(tile)[component * R<T> + lane];
}

template <class T>
CDE_INLINE Vec<T> magnitude(Vec<T> v) {
    return v < Vec<T>{} ? -v : v;
}

// What all tries of a thread share.
template <class Family, class T = typename Family::Number>
class Trial {
  public:
    static std::size_t workspace(const typename Family::Data& data, const Rules& rules) {
        return Arena::bytes<Vec<T>>(data.rows() * NV) * static_cast<std::size_t>(rules.stages + 2);
    }

    Trial(Family& family, const typename Family::Data& data, const Rules& rules, Arena& arena)
        : family_(family), rules_(rules), dim_(data.dim) {
        stride_ = static_cast<Index>(Arena::bytes<Vec<T>>(data.rows() * NV) / sizeof(Vec<T>));
        slopes = arena.take<Vec<T>>(stride_ * rules.stages);
        at_ = arena.take<Vec<T>>(stride_);
        spare_ = arena.take<Vec<T>>(stride_);
        for (Index q = 0; q < stride_ * (rules.stages + 2); ++q) slopes[q] = Vec<T>{};
    }

    // The first slope of lanes that are fresh; false in `sound` where it is not finite.
    void begin(const Vec<T>* x, const Mask<T> (&fresh)[NV], Mask<T> (&sound)[NV]) {
        family_.velocity(0, x, spare_);
        Vec<T> poison[NV] = {};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) {
                const Index q = r * NV + v;
                poison[v] += T(0) * spare_[q];
                slopes[q] = fresh[v] ? spare_[q] : slopes[q];
            }
        for (int v = 0; v < NV; ++v) sound[v] = poison[v] == poison[v];
    }

    // A step of the widths h in every lane; its end, and the root mean square of the scaled error, NaN where the end is
    // not finite. The first slope is known.
    const Vec<T>* step(const Vec<T>* x, const Vec<T> (&h)[NV], Vec<T> (&error)[NV]) {
        const Index s = rules_.stages;
        for (Index j = 1; j < s; ++j) {
            along(x, h, rules_.a + j * s, j, at_);
            family_.velocity(0, at_, slopes + j * stride_);
        }
        if (!rules_.same) along(x, h, rules_.b, s, at_);
        const T rtol = static_cast<T>(rules_.rtol), atol = static_cast<T>(rules_.atol);
        Vec<T> square[NV] = {}, poison[NV] = {};
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) {
                const Index q = r * NV + v;
                const Vec<T> before = magnitude<T>(x[q]), after = magnitude<T>(at_[q]);
                const Vec<T> scaled = h[v] * sum(rules_.error, s, q) / (atol + rtol * (before > after ? before : after));
                square[v] += scaled * scaled;
                poison[v] += at_[q] - at_[q];
            }
        for (int v = 0; v < NV; ++v)
            for (int k = 0; k < W<T>; ++k)
                error[v][k] = std::sqrt(square[v][k] / static_cast<T>(dim_)) + poison[v][k];
        return at_;
    }

    // Where lanes moved, the last slope is the first of the next step.
    void carry(const Mask<T> (&moved)[NV]) {
        const Vec<T>* last = slopes + (rules_.stages - 1) * stride_;
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) slopes[r * NV + v] = moved[v] ? last[r * NV + v] : slopes[r * NV + v];
    }

    // The first width of every lane: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4.
    void first_widths(const Vec<T>* x, Index count, double* widths) {
        const T rtol = static_cast<T>(rules_.rtol), atol = static_cast<T>(rules_.atol);
        const double span = rules_.span(), left = std::abs(rules_.ends[0] - rules_.begin);
        const auto norm = [&](const auto& number, Index lane) {
            T total = 0;
            for (Index r = 0; r < dim_; ++r) {
                const T scaled = number(r, lane) / (atol + rtol * std::abs(of(x, r, lane)));
                total += scaled * scaled;
            }
            return static_cast<double>(std::sqrt(total / static_cast<T>(dim_)));
        };
        family_.velocity(0, x, slopes);
        double guess[R<T>], slope[R<T>];
        Vec<T> h[NV] = {};
        for (Index lane = 0; lane < count; ++lane) {
            const double size = norm([&](Index r, Index k) { return of(x, r, k); }, lane);
            slope[lane] = norm([&](Index r, Index k) { return of(slopes, r, k); }, lane);
            guess[lane] = size < 1e-5 || slope[lane] < 1e-5 ? 1e-6 : 0.01 * size / slope[lane];
            guess[lane] = std::min(std::min(guess[lane], span), left);
            h[lane / W<T>][lane % W<T>] = static_cast<T>(rules_.direction() * guess[lane]);
        }
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) at_[r * NV + v] = x[r * NV + v] + h[v] * slopes[r * NV + v];
        family_.velocity(0, at_, spare_);
        for (Index lane = 0; lane < count; ++lane) {
            const auto bend = [&](Index r, Index k) { return of(spare_, r, k) - of(slopes, r, k); };
            const double most = std::max(slope[lane], norm(bend, lane) / guess[lane]);
            const double better =
                most <= 1e-15 ? std::max(guess[lane] * 1e-3, 1e-6) : std::pow(0.01 / most, 1 / rules_.order);
            const double width = std::min(100 * guess[lane], better);
            // Rows that are not finite get some width: they fail in the first step, and say why.
            widths[lane] = std::min(std::isfinite(width) && std::isfinite(most) ? width : span * 1e-3, span);
        }
    }

    Vec<T>* slopes;

  private:
    static T of(const Vec<T>* tile, Index component, Index lane) {
        return reinterpret_cast<const T*>(tile)[component * R<T> + lane];
    }

    CDE_INLINE Vec<T> sum(const double* weights, Index count, Index q) const {
        Vec<T> total{};
        for (Index l = 0; l < count; ++l)
            if (weights[l] != 0) total += static_cast<T>(weights[l]) * slopes[l * stride_ + q];
        return total;
    }

    void along(const Vec<T>* x, const Vec<T> (&h)[NV], const double* weights, Index count, Vec<T>* out) const {
        for (Index r = 0; r < dim_; ++r)
            for (int v = 0; v < NV; ++v) out[r * NV + v] = x[r * NV + v] + h[v] * sum(weights, count, r * NV + v);
    }

    Family& family_;
    const Rules& rules_;
    Index dim_, stride_;
    Vec<T>*at_, *spare_;
};

// What becomes of every row, (rows,) each.
struct Outcome {
    std::int32_t *accepted, *rejected, *status;
    double* reached;
};

// All steps of all rows; x at the end in `end`, which begins as the initial states. evaluations: of the row that took
// the most, as all rows of a batch are evaluated together. journey: null where nobody goes back.
template <class Family, class T = typename Family::Number>
bool run_adaptive(const typename Family::Data& data, const Rules& rules, Index threads, const T* u, T* end,
                  const Outcome& outcome, Index* evaluations, Journey<T>* journey) {
    const Index size = data.rows() * NV, dim = data.dim;
    const double direction = rules.direction(), least = rules.least();
    const typename Family::Shared shared(data, u, rules.pieces, false, shared_arena());
    std::vector<Index> asked(threads, 0);
    const bool good = in_threads(threads, [&](Index thread) {
        const Every own{thread, threads, rules.rows};
        struct Row {
            double width, previous;
            Index asked, last;
        };
        std::vector<Row> rows(own.count(), Row{rules.first, 0.0, 0, -1});
        Arena& arena = own_arena();
        arena.reset(Family::workspace(data, 1, false) + Trial<Family, T>::workspace(data, rules) +
                    Arena::bytes<Vec<T>>(size));
        Family family(data, shared, u, 1, false, arena);
        Trial<Family, T> trial(family, data, rules, arena);
        Vec<T>* x = arena.take<Vec<T>>(size);
        std::fill(x, x + size, Vec<T>{});
        const auto load = [&](Index lane, Index k) {
            for (Index r = 0; r < dim; ++r) lane_of<T>(x, r, lane) = end[own.row(k) * dim + r];
        };
        for (Index k = 0; k < own.count(); ++k) outcome.reached[own.row(k)] = rules.begin;
        family.enter(0);
        for (Index k = 0; rules.first == 0 && k < own.count(); k += R<T>) {
            const Index count = std::min<Index>(R<T>, own.count() - k);
            for (Index lane = 0; lane < count; ++lane) load(lane, k + lane);
            double widths[R<T>];
            trial.first_widths(x, count, widths);
            for (Index lane = 0; lane < count; ++lane) rows[k + lane].width = widths[lane], rows[k + lane].asked = 2;
        }
        for (Index piece = 0; piece < rules.pieces; ++piece) {
            family.enter(piece);
            const double stop = rules.ends[piece];
            Occupied<T> lanes;
            Mask<T> fresh[NV] = {};
            bool any_fresh = false;
            Index next = 0;
            const auto ended = [&](Index lane, std::int32_t status) {
                const Index k = lanes.row[lane], row = own.row(k);
                for (Index r = 0; r < dim; ++r) end[row * dim + r] = lane_of<T>(x, r, lane);
                outcome.status[row] = status;
                lanes.leave(lane);
            };
            while (true) {
                for (Index lane = 0; lane < R<T> && next < own.count(); ++lane) {
                    if (lanes.row[lane] >= 0) continue;
                    while (next < own.count() && outcome.status[own.row(next)] != RUNNING) ++next;
                    if (next == own.count()) break;
                    load(lane, next);
                    fresh[lane / W<T>][lane % W<T>] = -1;
                    any_fresh = true;
                    lanes.enter(lane, next++);
                }
                if (lanes.count == 0) break;
                if (any_fresh) {
                    Mask<T> sound[NV];
                    trial.begin(x, fresh, sound);
                    for (Index lane = 0; lane < R<T>; ++lane) {
                        if (lanes.row[lane] < 0 || !fresh[lane / W<T>][lane % W<T>]) continue;
                        ++rows[lanes.row[lane]].asked;
                        if (sound[lane / W<T>][lane % W<T>]) continue;
                        // Nothing that is not finite stays in a lane.
                        ++outcome.rejected[own.row(lanes.row[lane])];
                        ended(lane, DIVERGED);
                        for (Index r = 0; r < dim; ++r) lane_of<T>(x, r, lane) = lane_of<T>(trial.slopes, r, lane) = 0;
                    }
                    for (auto& mask : fresh) mask = Mask<T>{};
                    any_fresh = false;
                }
                Vec<T> h[NV] = {}, error[NV];
                double width[R<T>];
                bool lands[R<T>];
                for (Index lane = 0; lane < R<T>; ++lane) {
                    if (lanes.row[lane] < 0) continue;
                    const Index k = lanes.row[lane];
                    const double left = std::abs(stop - outcome.reached[own.row(k)]);
                    lands[lane] = rows[k].width * (1 + SLIVER) >= left;
                    width[lane] = lands[lane] ? left : rows[k].width;
                    h[lane / W<T>][lane % W<T>] = static_cast<T>(direction * width[lane]);
                }
                const Vec<T>* moved_to = trial.step(x, h, error);
                Mask<T> moved[NV] = {};
                for (Index lane = 0; lane < R<T>; ++lane)
                    if (lanes.row[lane] >= 0) moved[lane / W<T>][lane % W<T>] = error[lane / W<T>][lane % W<T>] <= 1 ? -1 : 0;
                if (journey != nullptr)
                    for (Index lane = 0; lane < R<T>; ++lane) {
                        if (!moved[lane / W<T>][lane % W<T>]) continue;
                        Row& row = rows[lanes.row[lane]];
                        Path<T>& path = journey->paths[thread];
                        row.last = path.add(row.last, piece, h[lane / W<T>][lane % W<T>]);
                        for (Index r = 0; r < dim; ++r) path.state(row.last)[r] = lane_of<T>(x, r, lane);
                    }
                for (Index r = 0; r < dim; ++r)
                    for (int v = 0; v < NV; ++v) x[r * NV + v] = moved[v] ? moved_to[r * NV + v] : x[r * NV + v];
                if (rules.same) {
                    trial.carry(moved);
                } else {
                    for (int v = 0; v < NV; ++v) fresh[v] = moved[v];
                    any_fresh = true;
                }
                for (Index lane = 0; lane < R<T>; ++lane) {
                    if (lanes.row[lane] < 0) continue;
                    const Index k = lanes.row[lane], row = own.row(k);
                    Row& state = rows[k];
                    state.asked += rules.stages - 1;
                    const double e = static_cast<double>(error[lane / W<T>][lane % W<T>]);
                    const bool onward = moved[lane / W<T>][lane % W<T>], landed = onward && lands[lane];
                    const double log_error = std::log(std::max(e, TINY));
                    double factor = rules.safety * std::exp((rules.proportional * state.previous -
                                                             (rules.proportional + rules.integral) * log_error) /
                                                            rules.order);
                    factor = factor > rules.grow ? rules.grow : factor >= rules.shrink ? factor : rules.shrink;
                    // A width that was cut to land says less than the one before.
                    const double further = width[lane] * factor;
                    state.width = landed && factor >= 1 ? std::max(further, state.width) : further;
                    ++(onward ? outcome.accepted : outcome.rejected)[row];
                    if (onward) {
                        outcome.reached[row] = landed ? stop : outcome.reached[row] + direction * width[lane];
                        state.previous = std::min(std::max(log_error, LEAST), 0.0);
                    }
                    if (landed && piece + 1 == rules.pieces)
                        ended(lane, DONE);
                    else if (state.width < least)
                        ended(lane, std::isnan(e) ? DIVERGED : STEP_TOO_SMALL);
                    else if (outcome.accepted[row] + outcome.rejected[row] >= rules.most)
                        ended(lane, MAX_STEPS);
                    else if (landed)
                        ended(lane, RUNNING);
                }
            }
        }
        for (Index k = 0; k < own.count(); ++k) {
            asked[thread] = std::max(asked[thread], rows[k].asked);
            if (journey != nullptr) journey->last[own.row(k)] = outcome.status[own.row(k)] == DONE ? rows[k].last : -1;
        }
    });
    *evaluations = *std::max_element(asked.begin(), asked.end());
    return good;
}

// The way back. start: the cotangent of x; moments: one slab of pieces * moment_size numbers a thread, the first of which
// is the answer.
template <class Family, class T = typename Family::Number>
bool run_adaptive_backward(const typename Family::Data& data, const Rules& rules, Index threads, const T* u,
                           const Journey<T>& journey, const T* cotangent, T* start, T* moments) {
    const Index size = data.rows() * NV, dim = data.dim, s = rules.stages, needed = rules.needed();
    const Index moment_size = Family::moment_size(data), slab = rules.pieces * moment_size;
    const typename Family::Shared shared(data, u, rules.pieces, true, shared_arena());
    const bool good = in_threads(threads, [&](Index thread) {
        const Every own{thread, threads, rules.rows};
        const Path<T>& path = journey.paths[thread];
        Arena& arena = own_arena();
        const Index stride = static_cast<Index>(Arena::bytes<Vec<T>>(size) / sizeof(Vec<T>));
        arena.reset(Family::workspace(data, 1, true) + Arena::bytes<Vec<T>>(stride * (3 * needed + 2)));
        Family family(data, shared, u, 1, true, arena);
        Vec<T>* states = arena.take<Vec<T>>(stride * (3 * needed + 2));
        Vec<T>*slopes = states + stride * needed, *mu = slopes + stride * needed, *p = mu + stride * needed, *w = p + stride;
        std::fill(states, w + stride, Vec<T>{});
        T* own_moments = moments + thread * slab;
        std::fill(own_moments, own_moments + slab, T(0));
        std::vector<Index> at(own.count());
        for (Index k = 0; k < own.count(); ++k) {
            const Index row = own.row(k);
            at[k] = journey.last[row];
            for (Index r = 0; r < dim; ++r) start[row * dim + r] = at[k] < 0 ? T(0) : cotangent[row * dim + r];
        }
        for (Index piece = rules.pieces - 1; piece >= 0; --piece) {
            family.enter(piece);
            Occupied<T> lanes;
            Index next = 0;
            while (true) {
                for (Index lane = 0; lane < R<T> && next < own.count(); ++lane) {
                    if (lanes.row[lane] >= 0) continue;
                    while (next < own.count() && at[next] < 0) ++next;
                    if (next == own.count()) break;
                    for (Index r = 0; r < dim; ++r) lane_of<T>(p, r, lane) = start[own.row(next) * dim + r];
                    lanes.enter(lane, next++);
                }
                if (lanes.count == 0) break;
                Vec<T> h[NV] = {};
                for (Index lane = 0; lane < R<T>; ++lane) {
                    if (lanes.row[lane] < 0) continue;
                    const Index k = at[lanes.row[lane]];
                    const T* from = path.state(k);
                    h[lane / W<T>][lane % W<T>] = path.entry(k).width;
                    for (Index r = 0; r < dim; ++r) lane_of<T>(states, r, lane) = from[r];
                }
                const auto weigh = [&](Vec<T>& total, double weight, const Vec<T>* what, Index q) {
                    if (weight != 0) total += static_cast<T>(weight) * what[q];
                };
                for (Index j = 0; j < needed; ++j) {
                    for (Index q = 0; j > 0 && q < dim * NV; ++q) {
                        Vec<T> total{};
                        for (Index l = 0; l < j; ++l) weigh(total, rules.a[j * s + l], slopes + l * stride, q);
                        states[j * stride + q] = states[q] + h[q % NV] * total;
                    }
                    if (j + 1 < needed) family.velocity(0, states + j * stride, slopes + j * stride);
                }
                for (Index j = needed - 1; j >= 0; --j) {
                    for (Index q = 0; q < dim * NV; ++q) {
                        Vec<T> total{};
                        weigh(total, rules.b[j], p, q);
                        for (Index l = j + 1; l < needed; ++l) weigh(total, rules.a[l * s + j], mu + l * stride, q);
                        w[q] = h[q % NV] * total;
                    }
                    family.pullback(0, states + j * stride, w, mu + j * stride, own_moments + piece * moment_size);
                }
                for (Index j = 0; j < needed; ++j)
                    for (Index q = 0; q < dim * NV; ++q) p[q] += mu[j * stride + q];
                for (Index lane = 0; lane < R<T>; ++lane) {
                    if (lanes.row[lane] < 0) continue;
                    const Index k = lanes.row[lane], row = own.row(k), before = path.entry(at[k]).before;
                    at[k] = before;
                    if (before >= 0 && path.entry(before).piece == piece) continue;
                    for (Index r = 0; r < dim; ++r) {
                        start[row * dim + r] = lane_of<T>(p, r, lane);
                        // An empty lane adds nothing to sums, whatever its cotangent was.
                        lane_of<T>(p, r, lane) = 0;
                    }
                    lanes.leave(lane);
                }
            }
            family.leave(own_moments + piece * moment_size);
        }
    });
    add_slabs<Family>(moments, slab, threads);
    return good;
}

}  // namespace cde
