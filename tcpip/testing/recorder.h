// Records what a client and a server say to each other.
//
//   Recorder recorder({.server_host = "dome.local", .server_port = 4000});
//   recorder.start();
//   MyClient client(recorder.port());   // on 127.0.0.1
//   client.open_the_dome();
//   client.close();
//   recorder.close();
//   recorder.recording().save("tests/open_the_dome.txt");
//
// recording.h describes the file; a ReplayServer plays it. A recorder passes
// everything on as a FaultyProxy without faults does.
//
// Threads: every member may be called from any thread at any time. start()
// makes one thread, "tcpip-recorder"; close() ends and joins it.
#ifndef TCPIP_TESTING_RECORDER_H_
#define TCPIP_TESTING_RECORDER_H_

#include "tcpip/version.h"

#include <cstdint>
#include <memory>
#include <string>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

namespace internal {
class Forwarder;
}

struct TCPIP_EXPORT RecorderOptions {
  // Where the server listens.
  std::string server_host = std::string(tcpip::kDefaultLocalhost);
  int server_port = 0;
  tcpip::Log log = {};  // gets what goes wrong
};

class TCPIP_EXPORT Recorder final {
 public:
  using Options = RecorderOptions;

  // Throws std::invalid_argument for a port outside 1...65535.
  explicit Recorder(Options options);
  ~Recorder();  // close()
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // As FaultyProxy's members of these names.
  void start(const tcpip::Wait& wait = kPatience);
  int port() const;
  void close();
  std::uint64_t connection_count() const;

  // What has passed so far on the nth connection, from 1; also after close().
  // A piece is what passed at one time, whatever the writes were. A reset is
  // recorded as an end. Throws std::out_of_range if there was no such
  // connection.
  Recording recording(std::uint64_t connection = 1) const;

 private:
  const std::shared_ptr<internal::Forwarder> forwarder_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_RECORDER_H_
