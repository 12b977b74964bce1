// Picks the widest instruction set that this processor has.
#include <cstring>
#include <initializer_list>

#include "api.h"
#include "kernels.h"

namespace deja_vu {

extern const Kernels kernels_base;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

namespace {

bool runs(const char* name) {
    if (!std::strcmp(name, "base")) return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!std::strcmp(name, "avx2")) return avx2;
    if (!std::strcmp(name, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return false;
}

const Kernels* table(const char* name) {
    if (!runs(name)) return nullptr;
#if defined(__x86_64__)
    if (!std::strcmp(name, "avx512")) return &kernels_avx512;
    if (!std::strcmp(name, "avx2")) return &kernels_avx2;
#endif
    return &kernels_base;
}

const Kernels* widest() {
    for (const char* name : {"avx512", "avx2"})
        if (const Kernels* found = table(name)) return found;
    return &kernels_base;
}

const Kernels* current = widest();

}  // namespace

const Kernels& kernels() { return *current; }

}  // namespace deja_vu

DEJA_VU_API const char* deja_vu_variant() { return deja_vu::kernels().name; }

// Returns 0, or 1 if this processor does not run the variant.
DEJA_VU_API int deja_vu_select_variant(const char* name) {
    const deja_vu::Kernels* found = deja_vu::table(name);
    if (found) deja_vu::current = found;
    return found ? 0 : 1;
}

// Tells a library built from other sources; the build defines the macro.
DEJA_VU_API const char* deja_vu_source_key() { return DEJA_VU_SOURCE_KEY; }

// Sizes of the structs of api.h, in the order in which abi.py lists its mirrors.
DEJA_VU_API const int32_t* deja_vu_struct_sizes() {
    static const int32_t sizes[] = {sizeof(DejaVuRasterInput), sizeof(DejaVuRasterOutput), sizeof(DejaVuRasterGradients),
                                    sizeof(DejaVuRasterWork),  sizeof(DejaVuSsim),         sizeof(DejaVuPicture),      sizeof(DejaVuMesh),
                                    sizeof(DejaVuNeighbors),  sizeof(DejaVuAttach),
                                    sizeof(DejaVuColor)};
    return sizes;
}
