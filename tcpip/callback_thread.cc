#include "tcpip/callback_thread.h"

#include <utility>

#include "tcpip/base/process.h"
#include "tcpip/base/workers.h"

namespace tcpip {

// The thread holds a reference, since a callback may destroy the
// CallbackThread.
class CallbackThread::Impl {
 public:
  explicit Impl(std::size_t max_size) : queue(max_size) {}

  void close();

  const internal::ProcessMark process;
  CallbackQueue queue;
  internal::Workers workers;
};

void CallbackThread::Impl::close() {
  internal::QueueThread::close(queue);
  workers.refuse();
  // If the thread could not be joined, it is inside a callback that returns
  // after this. The callbacks behind that one must not run after close().
  if (!workers.join()) internal::QueueThread::drop_all(queue);
}

CallbackThread::CallbackThread(Options options)
    : impl_(std::make_shared<Impl>(options.max_size)) {
  impl_->workers.start({.role = ThreadRole::kDispatch,
                        .name = std::move(options.name),
                        .hook = std::move(options.thread_start_hook),
                        .log = options.log},
                       [impl = impl_, log = options.log] {
                         internal::QueueThread::drain(impl->queue, log);
                       });
}

// These members hold a reference to the Impl: a callback may destroy the
// CallbackThread meanwhile.

CallbackThread::~CallbackThread() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) {
    impl->close();
  } else {
    internal::keep_for_ever(impl);
  }
}

CallbackQueue& CallbackThread::queue() noexcept { return impl_->queue; }

void CallbackThread::close() {
  const std::shared_ptr<Impl> impl = impl_;
  if (!impl->process.is_here()) return;
  impl->close();
}

bool CallbackThread::is_current_thread() const noexcept {
  return impl_->process.is_here() && impl_->workers.is_current_thread();
}

}  // namespace tcpip
