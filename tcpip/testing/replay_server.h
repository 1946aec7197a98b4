// A server that plays one side of a recorded exchange: a fake instrument.
//
//   ReplayServer dome({.recording = Recording::load("tests/open.txt")});
//   dome.start();
//   MyClient client(dome.port());   // on 127.0.0.1
//   client.open_the_dome();
//   dome.wait_done();               // throws if the client said anything else
//
// It sends what the server has sent in the recording, each piece when all that
// stands before it has happened: a greeting at once, an answer when the request
// has come. What the client sends must be, byte for byte, what it has sent in
// the recording; into how many writes the client divides it does not matter,
// nor that it comes earlier than the answers before it.
//
// It serves one client, the first. Later ones are refused.
//
// Threads: every member may be called from any thread at any time. start()
// makes one thread, "tcpip-replay"; close() ends and joins it.
#ifndef TCPIP_TESTING_REPLAY_SERVER_H_
#define TCPIP_TESTING_REPLAY_SERVER_H_

#include "tcpip/version.h"

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "tcpip/error.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

// The client has sent something else than in the recording. what() shows the
// place and both texts, escaped as in a recording.
class TCPIP_EXPORT ReplayMismatch final : public std::runtime_error {
 public:
  // For ReplayServer.
  ReplayMismatch(std::uint64_t offset, std::string expected, std::string got,
                 const std::string& what);

  // How many bytes of the client's were right: the index, in all that the
  // client sends, of the first wrong one.
  std::uint64_t offset() const noexcept { return offset_; }
  // What the recording has from there on, and what has come: some bytes of
  // each. Empty: the client is to send nothing more; it has closed.
  const std::string& expected() const noexcept { return texts_->expected; }
  const std::string& got() const noexcept { return texts_->got; }

 private:
  struct Texts {
    std::string expected;
    std::string got;
  };
  std::uint64_t offset_;
  std::shared_ptr<const Texts> texts_;  // shared: copying must not throw
};

// When the server's pieces are sent.
enum class ReplayTiming {
  kAtOnce,  // as soon as what stands before them has happened
  // So long after that as in the recording.
  kRecorded
};

struct TCPIP_EXPORT ReplayServerOptions {
  Recording recording = {};                     // what is played
  ReplayTiming timing = ReplayTiming::kAtOnce;  // and how fast
};

class TCPIP_EXPORT ReplayServer final {
 public:
  using Options = ReplayServerOptions;

  // Throws std::invalid_argument as Recording::check().
  explicit ReplayServer(Options options);
  ~ReplayServer();  // close()
  ReplayServer(const ReplayServer&) = delete;
  ReplayServer& operator=(const ReplayServer&) = delete;

  // Listens on a free port of 127.0.0.1. Once. Throws tcpip::Error if it
  // cannot; CancelledError if close() is called meanwhile; std::logic_error if
  // it was called before, or close() was.
  void start();
  int port() const;  // 0 before start()
  // Ends the connection and the thread, at once. Idempotent.
  void close();

  // Waits until all of the recording has happened. Throws ReplayMismatch as
  // soon as the client sends something else, or closes too early (the client is
  // then reset); ConnectionError if the client has gone before all was sent;
  // Error if the client could not be accepted; TimeoutError, which says how far
  // it has come; CancelledError, also if close() is called before the end.
  void wait_done(const tcpip::Wait& wait = kPatience) const;
  // The same without waiting for anything: returns if all is well so far. What
  // the client sends beyond a recording that has no end of the client's is a
  // mismatch that only a later check() or wait_done() can tell.
  void check() const;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_REPLAY_SERVER_H_
