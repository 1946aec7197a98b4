#include "tools/monitor/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/stream_writer.h"
#include "tools/monitor/counted.h"

namespace tcpip_monitor {
namespace {

using tcpip_testing::escaped;
using Piece = tcpip_testing::Recording::Piece;

void pause(std::chrono::microseconds time, const std::stop_token& stop) {
  if (time.count() <= 0) return;
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  stopped.wait_for(lock, stop, time, [] { return false; });
  if (stop.stop_requested()) throw tcpip::CancelledError("replay");
}

// What the peer has sent so far is right.
class Checker {
 public:
  Checker(const tcpip::Connection& peer, std::stop_token stop)
      : peer_(peer), stop_(std::move(stop)) {}

  void expect(const Piece& piece) {
    if (piece.bytes.empty()) {
      const std::string got = read(kShown);
      if (!got.empty()) fail("the end", got);
      return;
    }
    for (std::string_view rest = piece.bytes; !rest.empty();) {
      const std::string got = read(rest.size());
      const std::size_t right = static_cast<std::size_t>(
          std::mismatch(got.begin(), got.end(), rest.begin()).first -
          got.begin());
      offset_ += right;
      rest.remove_prefix(right);
      if (got.empty()) fail(quoted(rest), {});
      if (right < got.size()) fail(quoted(rest), got.substr(right));
    }
  }

 private:
  static constexpr std::size_t kShown = 60;

  // Empty at the end of what the peer sends.
  std::string read(std::size_t most) const {
    std::string got = peer_.read(most, stop_);
    // That is also what a read gets when the connection is closed here.
    if (got.empty() && !peer_.should_be_connected()) {
      throw tcpip::CancelledError("replay");
    }
    return got;
  }

  static std::string quoted(std::string_view bytes) {
    return fmt::format("\"{}\"", escaped(bytes.substr(0, kShown)));
  }
  [[noreturn]] void fail(const std::string& expected, std::string_view got) {
    throw ReplayMismatch(fmt::format(
        "replay: after {} as recorded the recording has {}, but {}",
        counted(offset_, "byte"), expected,
        got.empty() ? "the peer has closed" : "the peer sent " + quoted(got)));
  }

  const tcpip::Connection peer_;
  const std::stop_token stop_;
  std::uint64_t offset_ = 0;
};

}  // namespace

Replay::Replay(tcpip_testing::Recording recording,
               tcpip_testing::Direction ours, bool at_once)
    : recording_(std::move(recording)), ours_(ours), at_once_(at_once) {}

void Replay::run(tcpip::Connection& peer, std::stop_token stop) const try {
  Checker checker(peer, stop);
  std::chrono::microseconds before{0};
  for (const Piece& piece : recording_.pieces) {
    if (piece.direction != ours_) {
      checker.expect(piece);
    } else {
      if (!at_once_) pause(piece.time - before, stop);
      if (!piece.bytes.empty()) {
        peer.write(piece.bytes, stop);
      } else if (const std::shared_ptr<tcpip::StreamWriter> writer =
                     peer.writer()) {
        writer->write_eof();
      }
    }
    before = piece.time;
  }
} catch (const tcpip::ConnectionError&) {
  if (peer.should_be_connected()) throw;
  throw tcpip::CancelledError("replay");  // closed here
}

}  // namespace tcpip_monitor
