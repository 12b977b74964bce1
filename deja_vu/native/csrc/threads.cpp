// A pool of sleeping threads. No OpenMP: its waiting threads spin, its runtime would have to be the one torch ships, and it
// does not survive a fork, which data loaders do.
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels.h"

namespace deja_vu {
namespace {

struct Work {
    void (*body)(void*, int, int) = nullptr;
    void* context = nullptr;
    int items = 0, threads = 1;
    std::atomic<int> next{0};
};

struct Pool {
    std::mutex owner;  // one parallel_for at a time; another caller runs alone
    std::mutex mutex;
    std::condition_variable wake, done;
    Work work;
    long round = 0;
    int spawned = 0, wanted = 0, running = 0;
};

Pool* pool = nullptr;

// Takes a share of what is left, less and less: neighbors stay on one core, and fewer claims travel between cores that may lie far apart.
void drain(Work& work, int worker) {
    int begin = work.next.load();
    while (begin < work.items) {
        const int end = begin + (work.items - begin) / (4 * work.threads) + 1;
        if (!work.next.compare_exchange_weak(begin, end)) continue;
        for (int item = begin; item < end; ++item) work.body(work.context, item, worker);
        begin = work.next.load();
    }
}

void serve(Pool* mine, int worker, long seen) {
    std::unique_lock<std::mutex> lock(mine->mutex);
    while (true) {
        mine->wake.wait(lock, [&] { return mine->round != seen && worker < mine->wanted; });
        seen = mine->round;
        lock.unlock();
        drain(mine->work, worker);
        lock.lock();
        if (--mine->running == 0) mine->done.notify_one();
    }
}

// The pool is leaked, and a forked child starts a new one: its parent's threads do not exist there.
void renew() { pool = new Pool; }

struct Start {
    Start() {
        renew();
        pthread_atfork(nullptr, nullptr, renew);
    }
} start;

}  // namespace

void parallel_for(int items, int threads, void (*body)(void*, int, int), void* context) {
    if (threads > items) threads = items;
    Pool* mine = pool;
    std::unique_lock<std::mutex> alone(mine->owner, std::try_to_lock);
    if (threads <= 1 || !alone.owns_lock()) {
        for (int item = 0; item < items; ++item) body(context, item, 0);
        return;
    }
    {
        std::lock_guard<std::mutex> lock(mine->mutex);
        mine->work.body = body;
        mine->work.context = context;
        mine->work.items = items;
        mine->work.threads = threads;
        mine->work.next.store(0);
        for (; mine->spawned < threads - 1; ++mine->spawned) std::thread(serve, mine, mine->spawned + 1, mine->round).detach();
        ++mine->round;
        mine->wanted = threads;
        mine->running = threads - 1;
    }
    mine->wake.notify_all();
    drain(mine->work, 0);
    std::unique_lock<std::mutex> lock(mine->mutex);
    mine->done.wait(lock, [&] { return mine->running == 0; });
}

}  // namespace deja_vu
