// The plain C interface: data pointers and sizes in, nothing of Python or of torch.
#include "adaptive.hpp"
#include "conv.hpp"
#include "features.hpp"
#include "pointwise.hpp"
#include "ridge.hpp"
#include "walk.hpp"

#if defined(_OPENMP)
#define CDE_THREADS "OpenMP"
#else
#define CDE_THREADS "one thread"
#endif
#if defined(__AVX512F__)
#define CDE_LANES "AVX-512"
#elif defined(__AVX2__)
#define CDE_LANES "AVX2"
#elif defined(__ARM_NEON)
#define CDE_LANES "NEON"
#else
#define CDE_LANES "baseline"
#endif

extern "C" {

// One flow. Python fills it once, and the pointers anew at every call; its field `size` guards against another layout.
struct cde_flow {
    std::int64_t size, family, is_double, threads, rows, dim, steps, stages, every, held, fields, terms;
    const double *widths, *a, *b;
    // ridge: C, b, sigma; features: parent, variable; images: phi, and its terms, channels, height, width, kernel's size
    // and whether states stay on spheres, int64
    const void* coefficients[3];
    const void *x, *u;
    void *end, *accepted, *kept;
    const void* cotangent;
    void *start, *moments;
};

// One flow whose rows choose their steps. `journey` is made on the way there where `keep` says so, and lives until
// `cde_adaptive_free`.
struct cde_adaptive {
    std::int64_t size, family, is_double, threads, rows, dim, pieces, stages, fields, terms, most, same, keep, evaluations;
    double begin, order, proportional, integral, safety, shrink, grow, first, rtol, atol;
    const double *ends, *a, *b, *error;
    const void* coefficients[3];
    const void* u;
    void *end, *accepted, *rejected, *status, *reached, *journey;
    const void* cotangent;
    void *start, *moments;
};

enum { CDE_GOOD = 0, CDE_NO_MEMORY = 1, CDE_OTHER_LAYOUT = 2, CDE_TOO_MANY_STAGES = 3 };
}

namespace {

template <class T, class Flow>
cde::RidgeData<T> ridge(const Flow& f) {
    const auto at = [&](int k) { return static_cast<const T*>(f.coefficients[k]); };
    return {at(0), at(1), at(2), f.dim, f.fields, f.terms - 1};
}

template <class T, class Flow>
cde::FeatureData<T> features(const Flow& f) {
    const auto at = [&](int k) { return static_cast<const std::int32_t*>(f.coefficients[k]); };
    return {at(0), at(1), f.dim, f.terms};
}

const std::int64_t* shape_of(const cde_flow& f) { return static_cast<const std::int64_t*>(f.coefficients[1]); }

template <class T>
cde::ConvData<T> images(const cde_flow& f) {
    const std::int64_t* s = shape_of(f);
    return {static_cast<const T*>(f.coefficients[0]), s[0], f.dim, s[1], s[2], s[3], s[4]};
}

template <class Family, class T>
bool go(const cde_flow& f, const typename Family::Data& data, bool back) {
    const bool sphere = f.family == 2 && shape_of(f)[5] != 0;
    const cde::Steps steps{f.rows, f.steps, f.stages, f.every, f.held != 0, sphere, f.widths, f.a, f.b};
    const T* u = static_cast<const T*>(f.u);
    T* kept = static_cast<T*>(f.kept);
    auto* accepted = static_cast<std::int32_t*>(f.accepted);
    if (!back)
        return cde::run_forward<Family>(data, steps, f.threads, static_cast<const T*>(f.x), u, static_cast<T*>(f.end),
                                        accepted, kept);
    return cde::run_backward<Family>(data, steps, f.threads, u, kept, accepted, static_cast<const T*>(f.cotangent),
                                     static_cast<T*>(f.start), static_cast<T*>(f.moments));
}

// In small dimensions loops over what is not known at compile time cost as much as what is in them.
template <class T>
bool go_ridge(const cde_flow& f, bool back) {
    const auto data = ridge<T>(f);
    if (f.terms != 3) return go<cde::Ridge<T, 0, 0>, T>(f, data, back);
    switch (f.dim) {
        case 2: return go<cde::Ridge<T, 2, 3>, T>(f, data, back);
        case 3: return go<cde::Ridge<T, 3, 3>, T>(f, data, back);
        case 4: return go<cde::Ridge<T, 4, 3>, T>(f, data, back);
        case 8: return go<cde::Ridge<T, 8, 3>, T>(f, data, back);
        default: return go<cde::Ridge<T, 0, 3>, T>(f, data, back);
    }
}

template <class T>
bool go(const cde_flow& f, bool back) {
    if (f.family == 0) return go_ridge<T>(f, back);
    if (f.family == 1) return go<cde::Features<T>, T>(f, features<T>(f), back);
    return go<cde::Conv<T>, T>(f, images<T>(f), back);
}

template <class Family, class T>
bool go(cde_adaptive& f, const typename Family::Data& data, bool back) {
    const cde::Rules rules{f.rows,         f.pieces,     f.stages, f.most,   f.same != 0, f.begin, f.ends,  f.a,    f.b,   f.error,
                           f.order,        f.proportional, f.integral, f.safety, f.shrink,    f.grow,  f.first, f.rtol, f.atol};
    const T* u = static_cast<const T*>(f.u);
    auto* journey = static_cast<cde::Journey<T>*>(f.journey);
    if (back)
        return cde::run_adaptive_backward<Family>(data, rules, f.threads, u, *journey, static_cast<const T*>(f.cotangent),
                                                  static_cast<T*>(f.start), static_cast<T*>(f.moments));
    if (f.keep) {
        journey = new cde::Journey<T>{std::vector<cde::Path<T>>(), std::vector<cde::Index>(f.rows)};
        f.journey = journey;
        for (cde::Index thread = 0; thread < f.threads; ++thread) journey->paths.emplace_back(f.dim);
    }
    const auto counts = [](void* p) { return static_cast<std::int32_t*>(p); };
    const cde::Outcome outcome{counts(f.accepted), counts(f.rejected), counts(f.status), static_cast<double*>(f.reached)};
    return cde::run_adaptive<Family>(data, rules, f.threads, u, static_cast<T*>(f.end), outcome, &f.evaluations, journey);
}

template <class T>
bool go(cde_adaptive& f, bool back) {
    if (f.family != 0) return go<cde::Features<T>, T>(f, features<T>(f), back);
    if (f.terms == 3) return go<cde::Ridge<T, 0, 3>, T>(f, ridge<T>(f), back);
    return go<cde::Ridge<T, 0, 0>, T>(f, ridge<T>(f), back);
}

template <class Flow>
std::int64_t tiles(const Flow& f) {
    const std::int64_t rows = f.is_double ? cde::R<double> : cde::R<float>;
    return cde::padded(f.rows, rows) / rows;
}

// Of one thread at one stage.
std::int64_t moment_numbers(const cde_adaptive& f) {
    const std::int64_t wide = f.is_double ? cde::W<double> : cde::W<float>;
    return f.family == 0 ? f.fields * wide : f.dim * cde::padded(f.terms, wide);
}
std::int64_t moment_numbers(const cde_flow& f) {
    const std::int64_t wide = f.is_double ? cde::W<double> : cde::W<float>;
    if (f.family == 2) return shape_of(f)[1] * f.terms * wide;
    return f.family == 0 ? f.fields * wide : f.dim * cde::padded(f.terms, wide);
}

template <class Flow>
int run(Flow* f, bool back) {
    if (f->size != static_cast<std::int64_t>(sizeof(Flow))) return CDE_OTHER_LAYOUT;
    if (f->stages > cde::MOST_STAGES) return CDE_TOO_MANY_STAGES;
    try {
        return (f->is_double ? go<double>(*f, back) : go<float>(*f, back)) ? CDE_GOOD : CDE_NO_MEMORY;
    } catch (const std::bad_alloc&) {
        return CDE_NO_MEMORY;
    }
}

}  // namespace

#if defined(_WIN32)
#define CDE_EXPORT __declspec(dllexport)
#else
#define CDE_EXPORT __attribute__((visibility("default")))
#endif

extern "C" {
CDE_EXPORT int cde_flow_forward(const cde_flow* flow) { return run(flow, false); }
CDE_EXPORT int cde_flow_backward(const cde_flow* flow) { return run(flow, true); }
// Threads that there will be: `moments` must hold a slab for each. The way back takes as many as the way there.
CDE_EXPORT std::int64_t cde_adaptive_threads(const cde_adaptive* f) { return std::min(f->threads, tiles(*f)); }
CDE_EXPORT std::int64_t cde_adaptive_slab(const cde_adaptive* f) {
    return f->pieces * moment_numbers(*f);
}
CDE_EXPORT int cde_adaptive_forward(cde_adaptive* flow) { return run(flow, false); }
CDE_EXPORT int cde_adaptive_backward(cde_adaptive* flow) { return run(flow, true); }
// The steps in order, (steps, rows): the widths, and the pieces they lie in.
CDE_EXPORT void cde_adaptive_steps(int is_double, const void* journey, const std::int32_t* accepted, void* widths,
                                   std::int64_t* pieces) {
    const auto write = [&](auto zero) {
        using T = decltype(zero);
        static_cast<const cde::Journey<T>*>(journey)->write(accepted, static_cast<T*>(widths), pieces);
    };
    is_double ? write(0.0) : write(0.0f);
}
CDE_EXPORT void cde_adaptive_free(int is_double, void* journey) {
    if (is_double)
        delete static_cast<cde::Journey<double>*>(journey);
    else
        delete static_cast<cde::Journey<float>*>(journey);
}
// Rows of a tile.
CDE_EXPORT std::int64_t cde_flow_rows(int is_double) { return is_double ? cde::R<double> : cde::R<float>; }
// Numbers of one thread's moments, and how many threads there will be: `moments` must hold their product.
CDE_EXPORT std::int64_t cde_flow_slab(const cde_flow* f) {
    return f->steps * f->stages * moment_numbers(*f);
}
CDE_EXPORT std::int64_t cde_flow_threads(const cde_flow* f) {
    return f->threads < tiles(*f) ? f->threads : tiles(*f);
}
CDE_EXPORT void cde_ridge_velocity(int is_double, std::int64_t terms, std::int64_t rows, std::int64_t count,
                                   std::int64_t dim, std::int64_t threads, const void* z, const void* u,
                                   const void* offsets, const void* sigma, void* out) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        const auto at = [](const void* p) { return static_cast<const T*>(p); };
        const cde::Wide<T> fields{at(u), at(offsets), at(sigma), rows, count, dim, terms, threads};
        const auto velocity = terms == 3 ? cde::ridge_velocity<T, 3> : cde::ridge_velocity<T, 0>;
        velocity(at(z), fields, static_cast<T*>(out));
    };
    is_double ? run(0.0) : run(0.0f);
}
CDE_EXPORT void cde_ridge_pullback(int is_double, std::int64_t terms, std::int64_t rows, std::int64_t count,
                                   std::int64_t dim, std::int64_t threads, void* z, const void* w, const void* u,
                                   const void* offsets, const void* sigma, void* slabs) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        const auto at = [](const void* p) { return static_cast<const T*>(p); };
        const cde::Wide<T> fields{at(u), at(offsets), at(sigma), rows, count, dim, terms, threads};
        const auto pullback = terms == 3 ? cde::ridge_pullback<T, 3> : cde::ridge_pullback<T, 0>;
        pullback(static_cast<T*>(z), at(w), fields, static_cast<T*>(slabs));
    };
    is_double ? run(0.0) : run(0.0f);
}
CDE_EXPORT const char* cde_flow_built() { return CDE_LANES ", " CDE_THREADS; }
}
