// Posts a connection event as a client or server does, but without one.
//
// Threads: may be called from any thread.
#ifndef TESTS_SUPPORT_POST_EVENT_H_
#define TESTS_SUPPORT_POST_EVENT_H_

#include <utility>

#include "tcpip/callback_queue.h"

namespace tcpip_tests {

// False, and the callback is dropped, if the owner is cancelled.
inline bool post_event(tcpip::internal::EventOwner& owner,
                       tcpip::CallbackQueue::Callback callback) {
  tcpip::internal::PreparedEvent event(std::move(callback));
  const bool posted = owner.post_event(event);
  owner.wake();
  return posted;
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_POST_EVENT_H_
