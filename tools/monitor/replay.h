// Plays one side of a recording over a connection.
//
// What the other side sends must be, byte for byte, what it has sent in the
// recording; into how many writes it divides that does not matter.
//
// Threads: a Replay does not change; run() reads from the connection.
#ifndef TOOLS_MONITOR_REPLAY_H_
#define TOOLS_MONITOR_REPLAY_H_

#include <stdexcept>
#include <stop_token>

#include "tcpip/connection.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/recording.h"

namespace tcpip_monitor {

// The peer has sent something else; what() shows the place and both texts.
class ReplayMismatch final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Replay {
 public:
  // Plays what was sent in the direction `ours`: as long after what stands
  // before it as in the recording, or `at_once`.
  Replay(tcpip_testing::Recording recording, tcpip_testing::Direction ours,
         bool at_once);

  // Returns when all of the recording has happened. Throws ReplayMismatch;
  // ConnectionError if the peer has gone; CancelledError at the stop, or when
  // the connection is closed here.
  void run(tcpip::Connection& peer, std::stop_token stop) const;

 private:
  const tcpip_testing::Recording recording_;
  const tcpip_testing::Direction ours_;
  const bool at_once_;
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_REPLAY_H_
