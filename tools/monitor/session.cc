#include "tools/monitor/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/read_loop_client.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/stream_writer.h"
#include "tcpip/tap.h"
#include "tools/monitor/counted.h"
#include "tools/monitor/recorder.h"
#include "tools/monitor/replay.h"

namespace tcpip_monitor {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using tcpip::Connection;
using tcpip::TapEvent;
using tcpip_testing::Direction;

constexpr std::size_t kPiece = 64 * 1024;  // that one read takes
// What the tap holds while a disk is slow.
constexpr std::size_t kTapBuffer = 8 * 1024 * 1024;
// Bytes are not shown while the queue has no more room than this, so that
// remarks find some.
constexpr std::size_t kRoomForRemarks = 128;
constexpr auto kFlushTime = 1s;
// How long a client of the proxy that has sent FIN waits for its answer while
// another one wants its place. (For so long the kernel of a client that has
// gone for good may keep silent about it.)
constexpr auto kAnswerTime = 60s;

milliseconds in_milliseconds(Seconds seconds) {
  return std::chrono::ceil<milliseconds>(seconds);
}

// Whether each of the two directions of a proxy has ended.
class Halves {
 public:
  // Waits for the other half. False at the stop.
  bool finish(Direction direction, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    ended_[static_cast<std::size_t>(direction)] = true;
    changed_.notify_all();
    return changed_.wait(lock, stop, [this] { return ended_[0] && ended_[1]; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::array<bool, 2> ended_{};
};

}  // namespace

class Session::Impl {
 public:
  Impl(const Options& options, tcpip::CallbackQueue& queue,
       SessionEvents events, std::optional<tcpip_testing::Recording> replay);
  ~Impl() { close(); }

  std::string start();
  void close();
  tcpip::BaseClientOrServer& endpoint();

 private:
  using Begin = std::function<void(Connection&, std::stop_token)>;

  // Of the tap's thread.
  void on_record(const tcpip::TapRecord& record);
  void record(const tcpip::TapRecord& record);
  void write_pcapng(const tcpip::TapRecord& record);
  void hand_on(const tcpip::TapRecord& record);

  // Of the threads that read.
  void serve(Connection& peer, const std::stop_token& stop);
  void read_all(Connection& peer, const std::stop_token& stop);
  void play(Connection& peer, const std::stop_token& stop);
  void pass_on(Connection& client, const std::stop_token& stop);
  void pump(Connection from, Connection to, Direction direction,
            const std::stop_token& stop, Halves& halves);
  void note_end(Direction direction);

  // Of the main thread.
  void on_event(const tcpip::ConnectionEvent& event);

  tcpip::HeartbeatOptions heartbeats() const;
  Begin serving();
  void make_client();
  void make_server();
  void remark(std::string text);
  void file_fault(std::string text);

  Direction direction_of(TapEvent event) const {
    return (event == TapEvent::kSent) == is_client_ ? Direction::kToServer
                                                    : Direction::kToClient;
  }
  Direction ours() const {
    return is_client_ ? Direction::kToServer : Direction::kToClient;
  }

  const Options options_;
  const bool is_client_;
  tcpip::CallbackQueue& queue_;
  const SessionEvents events_;

  std::mutex recorder_mutex_;
  std::optional<Recorder> recorder_;  // guarded by the mutex
  std::optional<Replay> replay_;

  // An end could not be noted in its place.
  std::atomic<bool> is_recording_late_{false};

  // Of the tap's thread.
  tcpip::Tap::Sink pcapng_;
  std::array<std::uint64_t, 2> not_shown_{};
  // Of what the tap has skipped.
  std::uint64_t missing_in_records_ = 0;
  std::uint64_t missing_at_end_ = 0;

  std::shared_ptr<tcpip::Tap> tap_;
  std::optional<tcpip::ReconnectingClient> client_;
  std::optional<tcpip::OneClientReadLoopServer> server_;
};

Session::Impl::Impl(const Options& options, tcpip::CallbackQueue& queue,
                    SessionEvents events,
                    std::optional<tcpip_testing::Recording> replay)
    : options_(options),
      is_client_(!options.listen),
      queue_(queue),
      events_(std::move(events)) {
  if (replay) replay_.emplace(std::move(*replay), ours(), options_.at_once);
  if (!options_.record.empty()) {
    recorder_.emplace(options_.record,
                      [this](const std::string& what) { file_fault(what); });
  }
  if (!options_.pcapng.empty()) {
    pcapng_ = tcpip::pcapng_sink(options_.pcapng);
  }
  tap_ = std::make_shared<tcpip::Tap>(
      [this](const tcpip::TapRecord& record) { on_record(record); },
      tcpip::TapOptions{.buffer = kTapBuffer});
  if (is_client_) {
    make_client();
  } else {
    make_server();
  }
}

tcpip::HeartbeatOptions Session::Impl::heartbeats() const {
  return {.send = options_.send_heartbeats.has_value(),
          .interval =
              in_milliseconds(options_.send_heartbeats.value_or(Seconds(1)))};
}

Session::Impl::Begin Session::Impl::serving() {
  return [this](Connection& peer, const std::stop_token& stop) {
    serve(peer, stop);
  };
}

void Session::Impl::make_client() {
  tcpip::ReconnectOptions reconnect{.connect_timeout =
                                        in_milliseconds(options_.timeout)};
  if (!options_.reconnect) {
    // The first end is the end of the program.
    reconnect.first = reconnect.longest = 24h;
    reconnect.tries = 1;
  }
  client_.emplace(
      tcpip::ClientOptions{
          .host = options_.connect->host,
          .port = options_.connect->port,
          .callbacks = &queue_,
          .connect_callback =
              [this](const tcpip::ConnectionEvent& event) { on_event(event); },
          .encoding = options_.view.encoding,
          .terminator = options_.view.terminator,
          .heartbeats = heartbeats(),
          .connect = {.family = options_.family},
          .tap = tap_,
          .begin = serving()},
      serving(), reconnect);
}

void Session::Impl::make_server() {
  server_.emplace(
      tcpip::ServerOptions{
          .host = options_.listen->host,
          .port = options_.listen->port,
          .log = tcpip::Log(
              [this](tcpip::LogLevel, std::string_view, std::string_view text) {
                remark(std::string(text));
              },
              tcpip::LogLevel::kWarning),
          .callbacks = &queue_,
          .connect_callback =
              [this](const tcpip::ConnectionEvent& event) { on_event(event); },
          .encoding = options_.view.encoding,
          .terminator = options_.view.terminator,
          .heartbeats = heartbeats(),
          .listen = {.family = options_.family},
          .tap = tap_,
          .begin = serving(),
          .finish_time =
              options_.is_proxy() ? kAnswerTime : tcpip::kFinishTime},
      serving());
}

tcpip::BaseClientOrServer& Session::Impl::endpoint() {
  if (client_) return *client_;
  return *server_;
}

std::string Session::Impl::start() {
  if (client_) {
    client_->start();
    return {};
  }
  server_->start(kFlushTime);
  std::string places;
  for (const tcpip::Address& address : server_->addresses()) {
    places += (places.empty() ? "" : ", ") + address.to_string();
  }
  return places;
}

void Session::Impl::close() {
  if (client_) client_->close();
  if (server_) server_->close();
  tap_->close();
}

// --- The tap's thread ---

void Session::Impl::on_record(const tcpip::TapRecord& record) {
  missing_in_records_ += record.skipped;
  if (record.event == TapEvent::kEnded) {
    // What is missing at the end of a direction stands in no record.
    const std::uint64_t missing = tap_->skipped_bytes();
    missing_at_end_ = missing - std::min(missing, missing_in_records_);
    missing_in_records_ = missing;
  }
  this->record(record);
  write_pcapng(record);
  hand_on(record);
}

void Session::Impl::record(const tcpip::TapRecord& record) {
  const std::lock_guard lock(recorder_mutex_);
  if (!recorder_) return;
  if (is_recording_late_.exchange(false)) {
    recorder_->give_up("the file was written too slowly: an end is missing");
  }
  switch (record.event) {
    case TapEvent::kAccepted:
    case TapEvent::kConnected:
      recorder_->begin(record.time);
      break;
    case TapEvent::kReceived:
    case TapEvent::kSent:
      if (record.skipped > 0) {
        recorder_->give_up(counted(record.skipped, "byte") + " missing here");
      }
      recorder_->add(direction_of(record.event), record.time, record.bytes);
      break;
    case TapEvent::kEnded:
      if (missing_at_end_ > 0) {
        recorder_->give_up(counted(missing_at_end_, "byte") + " missing here");
      }
      // The end of the other side, if it came, was noted when it was read.
      recorder_->add_end(ours(), record.time);
      break;
  }
}

void Session::Impl::write_pcapng(const tcpip::TapRecord& record) {
  if (!pcapng_) return;
  try {
    pcapng_(record);
  } catch (const std::exception& e) {
    pcapng_ = nullptr;
    file_fault(fmt::format("cannot write {}: {}; the exchange goes on",
                           options_.pcapng, e.what()));
  }
}

void Session::Impl::hand_on(const tcpip::TapRecord& record) {
  switch (record.event) {
    case TapEvent::kAccepted:
    case TapEvent::kConnected: {
      not_shown_ = {};
      const std::string text = fmt::format(
          "{} {}",
          record.event == TapEvent::kAccepted ? "accepted" : "connected to",
          record.peer.to_string());
      queue_.post(
          [this, time = record.time, text] { events_.begun(time, text); });
      break;
    }
    case TapEvent::kReceived:
    case TapEvent::kSent: {
      const Direction direction = direction_of(record.event);
      // In a proxy the client is the other side, and ">" is what it sends.
      const bool is_out = options_.is_proxy()
                              ? direction == Direction::kToServer
                              : record.event == TapEvent::kSent;
      std::uint64_t& missing = not_shown_[static_cast<std::size_t>(direction)];
      missing += record.skipped;
      const Passed passed{.way = is_out ? Way::kOut : Way::kIn,
                          .time = record.time,
                          .bytes = std::string(record.bytes),
                          .position = record.position,
                          .skipped = missing};
      if (queue_.size() + kRoomForRemarks < tcpip::kDefaultQueueSize &&
          queue_.post([this, passed] { events_.passed(passed); })) {
        missing = 0;
      } else {
        missing += record.bytes.size();
      }
      break;
    }
    case TapEvent::kEnded:
      // The event tells the end, with the reason.
      if (const std::uint64_t missing =
              not_shown_[0] + not_shown_[1] + missing_at_end_) {
        remark(fmt::format("({} not shown before the end)",
                           counted(missing, "byte")));
      }
      break;
  }
}

// --- The threads that read ---

// In `begin`, not in the read handler: there the connection of a peer that has
// sent FIN goes on until this returns.
void Session::Impl::serve(Connection& peer, const std::stop_token& stop) {
  if (options_.is_proxy()) {
    pass_on(peer, stop);
  } else if (replay_) {
    play(peer, stop);
  } else {
    read_all(peer, stop);
  }
}

void Session::Impl::read_all(Connection& peer, const std::stop_token& stop) {
  while (!peer.read(kPiece, stop).empty()) {
  }
  // Else it was closed here, and the other side has not ended.
  if (peer.should_be_connected()) {
    note_end(is_client_ ? Direction::kToClient : Direction::kToServer);
  }
}

void Session::Impl::play(Connection& peer, const std::stop_token& stop) {
  std::string wrong;
  try {
    replay_->run(peer, stop);
  } catch (const ReplayMismatch& e) {
    wrong = e.what();
  }
  queue_.post([this, wrong] { events_.replayed(wrong); });
  // The main thread now ends all. Until then the peer may still send.
  read_all(peer, stop);
}

void Session::Impl::pass_on(Connection& client, const std::stop_token& stop) {
  Halves halves;
  std::atomic<bool> has_begun = false;
  tcpip::ReadLoopClient server(
      {.host = options_.connect->host,
       .port = options_.connect->port,
       .connect = {.family = options_.family},
       .begin =
           [&](Connection& from, const std::stop_token& server_stop) {
             has_begun = true;
             pump(from, client, Direction::kToClient, server_stop, halves);
           }},
      [](Connection& from, const std::stop_token&) { from.close(); });
  try {
    server.start({options_.timeout, stop});
  } catch (const tcpip::Error& e) {
    remark(fmt::format("cannot reach the server: {}", e.what()));
    client.close();
    return;
  }
  // `begin` is not called for a connection that is lost before.
  const std::stop_callback lost(server.connection().stop_token(), [&] {
    if (!has_begun) client.close();
  });
  pump(client, server.connection(), Direction::kToServer, stop, halves);
}

// Passes on FIN as FIN; any other end ends both connections.
void Session::Impl::pump(Connection from, Connection to, Direction direction,
                         const std::stop_token& stop, Halves& halves) {
  try {
    for (;;) {
      const std::string bytes = from.read(kPiece, stop);
      if (bytes.empty()) break;
      to.write(bytes, stop);
    }
    if (from.should_be_connected()) {  // else closed here
      note_end(direction);
      if (const auto writer = to.writer()) writer->write_eof();
      if (halves.finish(direction, stop)) return;
    }
  } catch (const tcpip::Error&) {
    // The event of the client's connection says why.
  } catch (const tcpip::CancelledError&) {
    // Closed here, or the other half has ended both.
  }
  from.close();
  to.close();
}

void Session::Impl::note_end(Direction direction) {
  try {
    tap_->flush(kFlushTime);  // what came before stands before it
  } catch (const tcpip::TimeoutError&) {
    // The disk is slow. The end must not stand before what came before it, and
    // nobody must wait here for what is being written.
    is_recording_late_ = true;
    return;
  }
  const std::lock_guard lock(recorder_mutex_);
  if (recorder_) {
    recorder_->add_end(direction, std::chrono::system_clock::now());
  }
}

// --- The main thread ---

void Session::Impl::on_event(const tcpip::ConnectionEvent& event) {
  if (event.connected) return;  // the tap has told it
  try {
    tap_->flush(kFlushTime);
  } catch (const tcpip::TimeoutError&) {
    // Then what has passed is shown behind the end.
  }
  // Behind what the tap has posted.
  if (!queue_.post([this, event] { events_.ended(event); })) {
    events_.ended(event);
  }
}

void Session::Impl::remark(std::string text) {
  queue_.post([this, text = std::move(text)] { events_.remark(text); });
}

void Session::Impl::file_fault(std::string text) {
  queue_.post([this, text = std::move(text)] { events_.file_fault(text); });
}

// --- The face ---

Session::Session(const Options& options, tcpip::CallbackQueue& queue,
                 SessionEvents events,
                 std::optional<tcpip_testing::Recording> replay)
    : impl_(std::make_unique<Impl>(options, queue, std::move(events),
                                   std::move(replay))) {}
Session::~Session() = default;

std::string Session::start() { return impl_->start(); }
tcpip::SendResult Session::send_text(std::string_view text) {
  return impl_->endpoint().send_str(text);
}
tcpip::SendResult Session::send_bytes(std::string_view bytes) {
  return impl_->endpoint().send(bytes);
}

std::size_t Session::unsent() const {
  try {
    return impl_->endpoint().unsent();
  } catch (const tcpip::ConnectionError&) {
    return 0;  // it has ended
  }
}

bool Session::drain(const tcpip::Wait& wait) {
  try {
    impl_->endpoint().drain(wait);
  } catch (const tcpip::TimeoutError&) {
    return false;
  } catch (const tcpip::ConnectionError&) {
    // Nothing more can be sent.
  }
  return true;
}

tcpip::EndpointStats Session::stats() const {
  return impl_->endpoint().stats();
}
void Session::close_connection() { impl_->endpoint().connection().close(); }
void Session::close() { impl_->close(); }

}  // namespace tcpip_monitor
