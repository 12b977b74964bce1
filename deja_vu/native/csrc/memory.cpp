// Big buffers are used again: a training step that returned tens of megabytes to the system would spend a sixth of its time
// on getting them back page by page.
#include <pthread.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "kernels.h"

namespace deja_vu {
namespace {

#ifdef DEJA_VU_EXACT_MEMORY
constexpr size_t kSmall = SIZE_MAX;  // all to malloc, byte for byte: a sanitizer sees what is read beyond the end or after release
#else
constexpr size_t kSmall = 1 << 16;  // left to malloc
#endif
constexpr size_t kKept = 256u << 20;  // at most this much waits unused

struct Shelf {
    std::mutex mutex;
    std::multimap<size_t, void*> memory;
    size_t bytes = 0;
};

Shelf* shelf = nullptr;

// Leaked; a forked child starts an empty one, as another thread may hold the parent's mutex.
void renew() { shelf = new Shelf; }

struct Start {
    Start() {
        renew();
        pthread_atfork(nullptr, nullptr, renew);
    }
} start;

// Sizes are rounded up by at most an eighth, so that those of similar pictures meet.
size_t round_up(size_t bytes) {
#ifdef DEJA_VU_EXACT_MEMORY
    return bytes;
#endif
    size_t step = 64;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

}  // namespace

void* take_memory(size_t bytes) {
    const size_t size = round_up(bytes);
    if (size >= kSmall) {
        std::lock_guard<std::mutex> lock(shelf->mutex);
        const auto found = shelf->memory.find(size);
        if (found != shelf->memory.end()) {
            void* memory = found->second;
            shelf->memory.erase(found);
            shelf->bytes -= size;
            return memory;
        }
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size ? size : 64)) throw std::bad_alloc();
    return memory;
}

void give_memory(void* memory, size_t bytes) {
    const size_t size = round_up(bytes);
    if (memory && size >= kSmall) {
        std::lock_guard<std::mutex> lock(shelf->mutex);
        if (shelf->bytes + size <= kKept) {
            shelf->memory.emplace(size, memory);
            shelf->bytes += size;
            return;
        }
    }
    std::free(memory);
}

}  // namespace deja_vu
