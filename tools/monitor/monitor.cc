#include "tools/monitor/monitor.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/testing/recording.h"
#include "tools/monitor/counted.h"
#include "tools/monitor/line_editor.h"
#include "tools/monitor/session.h"
#include "tools/monitor/signals.h"
#include "tools/monitor/terminal.h"
#include "tools/monitor/view.h"

namespace tcpip_monitor {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip::SendResult;

// How long the end waits for what was typed to be sent.
constexpr auto kDeliveryTime = 2s;
// How soon a line that could not be sent is tried again.
constexpr auto kRetry = 20ms;

bool has_color(Color color) {
  if (color != Color::kAuto) return color == Color::kAlways;
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return is_output_terminal() && (no_color == nullptr || *no_color == '\0') &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

int complain(int status, std::string_view what) {
  std::fputs(fmt::format("tcpip-monitor: {}\n", what).c_str(), stderr);
  return status;
}

int complain_of_output(int error) {
  return complain(kExitFile, "the standard output: " +
                                 std::generic_category().message(error) +
                                 "; nothing more is shown");
}

// "01 02 ff", blanks or not. std::nullopt if it is something else.
std::optional<std::string> bytes_of_hex(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    if (text[0] == ' ') {
      text.remove_prefix(1);
      continue;
    }
    const std::string_view digits = text.substr(0, 2);
    unsigned value = 0;
    const char* const end = digits.data() + digits.size();
    if (digits.size() < 2 ||
        std::from_chars(digits.data(), end, value, 16).ptr != end) {
      return std::nullopt;
    }
    bytes += static_cast<char>(value);
    text.remove_prefix(2);
  }
  return bytes;
}

// What has passed in one direction, for a status line.
struct Amount {
  std::uint64_t bytes = 0;
  std::uint64_t messages = 0;
  std::uint64_t heartbeats = 0;
  std::optional<steady_clock::time_point> last = {};
};

class Monitor {
 public:
  Monitor(const Options& options,
          std::optional<tcpip_testing::Recording> replay);
  int run();

 private:
  void wait();
  bool wait_for_key();
  // Until there is a signal, an event, something typed if `with_input`, or the
  // time has come. Returns which.
  struct Ready {
    bool signal;
    bool input;
  };
  Ready poll(bool with_input);
  int next_timeout() const;
  // Also while the output stands still: what needs the terminal waits.
  void take_signals();
  void act_on_signals();
  bool has_to_act() const { return is_resized_ || is_to_stop_; }
  void read_input();
  void act_on(const std::string& line);
  void command(std::string_view text);
  // Sends it, or keeps it for later in pending_.
  void send(std::string line);
  void tick();
  void flush();
  void finish();
  void deliver();

  void on_end(const ConnectionEvent& event);
  void on_replayed(const std::string& wrong);
  void end_with(int status);

  std::array<Amount, 2> amounts() const;
  void show_status();
  void show_totals();
  static std::string last_text(const Amount& amount);

  void remark(std::string_view text) {
    view_.remark(system_clock::now(), text);
  }
  void fault(std::string_view text) { view_.fault(system_clock::now(), text); }

  const Options options_;
  const bool edits_;
  Signals signals_;
  Output output_;
  View view_;
  std::unique_ptr<Input> input_;  // null: there is none
  tcpip::CallbackQueue queue_;
  Session session_;

  int status_ = kExitAsAsked;
  bool is_ending_ = false;
  bool is_hurried_ = false;  // a second Ctrl-C
  bool is_resized_ = false;  // the terminal
  bool is_to_stop_ = false;  // Ctrl-Z
  bool has_told_of_output_ = false;
  bool is_connected_ = false;
  std::uint64_t connections_ = 0;
  bool replay_is_over_ = false;
  std::optional<std::string> pending_;
  std::optional<steady_clock::time_point> linger_until_;

  steady_clock::time_point began_ = {};
  steady_clock::time_point status_time_ = steady_clock::now();
  std::optional<steady_clock::time_point> next_status_;
  std::array<Amount, 2> shown_{};  // by the last status line
};

Monitor::Monitor(const Options& options,
                 std::optional<tcpip_testing::Recording> replay)
    : options_(options),
      edits_(can_edit() && may_read_input()),
      signals_(edits_),
      output_(signals_.fd(), [this] { take_signals(); }),
      view_(options.view, has_color(options.color)),
      session_(options, queue_,
               {.begun =
                    [this](TimePoint time, const std::string& text) {
                      ++connections_;
                      is_connected_ = true;
                      began_ = steady_clock::now();
                      view_.begin(time);
                      view_.remark(time, text);
                    },
                .passed = [this](const Passed& passed) { view_.show(passed); },
                .ended = [this](const ConnectionEvent& e) { on_end(e); },
                .file_fault =
                    [this](const std::string& text) {
                      fault(text);
                      if (status_ == kExitAsAsked) status_ = kExitFile;
                    },
                .remark = [this](const std::string& text) { remark(text); },
                .replayed =
                    [this](const std::string& wrong) { on_replayed(wrong); }},
               std::move(replay)) {
  if (options.status) {
    next_status_ = status_time_ + std::chrono::ceil<std::chrono::milliseconds>(
                                      *options.status);
  }
}

int Monitor::run() {
  const TerminalGuard guard;
  std::string where;
  try {
    where = session_.start();
  } catch (const tcpip::Error& e) {
    return complain(kExitConnection, e.what());
  }
  if (edits_) {
    input_ = make_line_editor(
        options_.history, [this] { return wait_for_key(); },
        [this](const std::string& text) { fault(text); });
  }
  if (!input_ && may_read_input()) {
    input_ = std::make_unique<PlainInput>(::isatty(STDIN_FILENO) == 1);
  }
  if (!where.empty()) {
    remark("listening on " + where);
  } else {
    remark("connecting to " + tcpip::host_and_port(options_.connect->host,
                                                   options_.connect->port));
  }
  flush();
  while (!is_ending_) {
    wait();
    flush();
  }
  finish();
  return status_;
}

void Monitor::wait() {
  // While a line waits, the next ones wait where they come from.
  const Ready ready = poll(input_ && !input_->has_ended() && !pending_);
  act_on_signals();
  queue_.run_pending();
  if (pending_ && !is_ending_) send(*std::exchange(pending_, std::nullopt));
  if (ready.input) input_->read();
  read_input();
  tick();
}

// In input_->read(). Lines are not sent meanwhile, and signals end the key.
bool Monitor::wait_for_key() {
  for (;;) {
    const Ready ready = poll(true);
    if (ready.signal) return false;
    queue_.run_pending();
    tick();
    flush();
    if (is_ending_ || has_to_act()) return false;
    if (ready.input) return true;
  }
}

Monitor::Ready Monitor::poll(bool with_input) {
  std::array<::pollfd, 3> fds{{{signals_.fd(), POLLIN, 0},
                               {queue_.wait_fd(), POLLIN, 0},
                               {with_input ? STDIN_FILENO : -1, POLLIN, 0}}};
  if (::poll(fds.data(), fds.size(), next_timeout()) <= 0) return {};
  return {.signal = fds[0].revents != 0, .input = fds[2].revents != 0};
}

int Monitor::next_timeout() const {
  if (has_to_act()) return 0;
  std::chrono::milliseconds wait = 1h;
  const auto until = [&wait](auto left) {
    wait = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(left), 0ms,
                      wait);
  };
  if (const auto next = view_.next_tick()) until(*next - system_clock::now());
  if (next_status_) until(*next_status_ - steady_clock::now());
  if (linger_until_) until(*linger_until_ - steady_clock::now());
  if (pending_ || session_.unsent() > 0) until(kRetry);
  return static_cast<int>(wait.count());
}

void Monitor::take_signals() {
  while (const std::optional<int> number = signals_.take()) {
    switch (*number) {
      case SIGWINCH:
        is_resized_ = true;
        break;
      case SIGTSTP:
        is_to_stop_ = true;
        break;
      default:
        is_hurried_ = is_ending_;
        is_ending_ = true;
        output_.end_soon();
    }
  }
}

void Monitor::act_on_signals() {
  take_signals();
  if (std::exchange(is_resized_, false) && input_ && output_.wait()) {
    input_->resize();
  }
  if (std::exchange(is_to_stop_, false)) {
    if (input_) {
      if (output_.wait()) input_->hide();
      input_->suspend();
    }
    ::raise(SIGSTOP);
    if (input_) input_->resume();
  }
}

void Monitor::read_input() {
  if (!input_) return;
  while (!pending_ && !is_ending_) {
    try {
      const std::optional<std::string> line = input_->next_line();
      if (!line) break;
      act_on(*line);
    } catch (const std::length_error& e) {
      fault(fmt::format("not sent: {}", e.what()));
    }
  }
  if (pending_ || !input_->has_ended()) return;
  if (input_->is_terminal()) {
    is_ending_ = true;
  } else if (options_.linger && !linger_until_ && connections_ > 0) {
    linger_until_ =
        steady_clock::now() +
        std::chrono::ceil<std::chrono::milliseconds>(*options_.linger);
  }
}

void Monitor::act_on(const std::string& line) {
  std::string_view text = line;
  if (input_->is_terminal() && text.starts_with('/')) {
    text.remove_prefix(1);
    if (!text.starts_with('/')) {
      command(text);
      return;
    }
  }
  if (options_.is_proxy()) {
    remark("not sent: between a client and a server nothing is sent");
    return;
  }
  send(std::string(text));
}

void Monitor::command(std::string_view text) {
  if (text == "status") {
    show_status();
  } else if (text == "close") {
    session_.close_connection();
  } else if (text == "quit") {
    is_ending_ = true;
  } else if (text == "help") {
    remark("/status  bytes, messages, rates, when the last came");
    remark("/close   end this connection");
    remark("/quit    end the monitor, as Ctrl-D");
    remark("//text   send a line that begins with a /");
  } else {
    remark(fmt::format("there is no /{}; there are /status /close /quit /help",
                       text));
  }
}

void Monitor::send(std::string line) {
  SendResult result = SendResult::kSent;
  try {
    if (options_.view.show == Show::kLines ||
        options_.view.show == Show::kJson) {
      result = session_.send_text(line);
    } else if (const auto bytes = bytes_of_hex(line)) {
      if (!bytes->empty()) result = session_.send_bytes(*bytes);
    } else {
      fault("not sent: this is not hexadecimal, as in 01 02 ff: " + line);
      return;
    }
  } catch (const std::invalid_argument& e) {
    fault(fmt::format("not sent: {}", e.what()));
    return;
  }
  const bool is_first_try_of_client = !options_.listen && connections_ == 0;
  switch (result) {
    case SendResult::kSent:
    case SendResult::kQueued:
      break;
    case SendResult::kBusy:
      pending_ = std::move(line);
      break;
    case SendResult::kNotConnected:
      // What comes through a pipe waits for a peer, as does what is typed while
      // the monitor connects.
      if (!input_->is_terminal() || is_first_try_of_client) {
        pending_ = std::move(line);
      } else {
        fault("not sent: not connected: " + line);
      }
      break;
  }
}

void Monitor::tick() {
  const auto now = steady_clock::now();
  view_.tick(system_clock::now());
  if (session_.unsent() > 0) session_.drain(tcpip::Wait::none());
  if (next_status_ && now >= *next_status_) {
    show_status();
    next_status_ =
        now + std::chrono::ceil<std::chrono::milliseconds>(*options_.status);
  }
  if (linger_until_ && now >= *linger_until_) is_ending_ = true;
}

void Monitor::flush() {
  const std::string text = view_.take();
  if (text.empty()) return;
  // libedit's own writes would wait where ours do not.
  if (input_ && output_.wait()) input_->hide();
  output_.write(text);
  if (input_ && !is_ending_ && output_.wait()) input_->show();
  if (!output_.is_open()) is_ending_ = true;
  if (output_.error() != 0 && !std::exchange(has_told_of_output_, true)) {
    const int status = complain_of_output(output_.error());
    if (status_ == kExitAsAsked) status_ = status;
  }
}

void Monitor::finish() {
  deliver();
  if (input_) {
    if (output_.wait()) input_->hide();
    input_->suspend();
    input_ = nullptr;  // the terminal is as it was
  }
  session_.close();
  while (!queue_.empty()) queue_.run_pending();
  view_.end(system_clock::now());
  flush();
  if (output_.has_given_up()) {
    output_.end_soon();  // once more, for these
    output_.write("\n");
    remark("not all that has passed is shown");
  }
  if (connections_ > 0 && (is_output_terminal() || options_.status)) {
    show_totals();
  }
  flush();
}

// What was typed, or came through a pipe, reaches the peer.
void Monitor::deliver() {
  const auto deadline = steady_clock::now() + kDeliveryTime;
  while (!is_hurried_ && steady_clock::now() < deadline &&
         (pending_ || session_.unsent() > 0)) {
    session_.drain(kRetry);
    if (pending_) send(*std::exchange(pending_, std::nullopt));
    act_on_signals();
    if (connections_ == 0) break;
  }
  if (pending_) fault("not sent: " + *pending_);
  if (const std::size_t unsent = session_.unsent()) {
    fault(fmt::format("{} not sent: the peer does not read",
                      counted(unsent, "byte")));
  }
}

// --- What the session tells ---

void Monitor::on_end(const ConnectionEvent& event) {
  const auto now = system_clock::now();
  if (event.reason == DisconnectReason::kConnectFailed ||
      event.reason == DisconnectReason::kGaveUp) {
    view_.fault(now, fmt::format("cannot connect to {}: {}",
                                 tcpip::host_and_port(options_.connect->host,
                                                      options_.connect->port),
                                 event.error.message()));
    if (event.reason == DisconnectReason::kGaveUp) end_with(kExitConnection);
    return;
  }
  is_connected_ = false;
  view_.end(now);
  const bool is_orderly = event.reason == DisconnectReason::kPeerClosed ||
                          event.reason == DisconnectReason::kClosedHere;
  if (is_orderly) {
    view_.remark(now, to_string(event));
  } else {
    view_.fault(now, to_string(event));
  }
  if (!options_.replay.empty() && !replay_is_over_ && !is_ending_) {
    on_replayed("replay: the connection has ended before all had happened");
  }
  if (options_.listen || options_.reconnect) return;
  end_with(is_orderly ? kExitAsAsked : kExitConnection);
}

void Monitor::on_replayed(const std::string& wrong) {
  if (std::exchange(replay_is_over_, true)) return;
  if (wrong.empty()) {
    remark("replay: all of the recording has happened");
    end_with(kExitAsAsked);
  } else {
    fault(wrong);
    end_with(kExitReplay);
  }
}

void Monitor::end_with(int status) {
  if (status_ == kExitAsAsked) status_ = status;
  is_ending_ = true;
}

// --- Status ---

std::array<Amount, 2> Monitor::amounts() const {
  const tcpip::EndpointStats stats = session_.stats();
  Amount received{.bytes = stats.bytes_received, .last = stats.last_receive};
  Amount sent{.bytes = stats.bytes_sent, .last = stats.last_send};
  // In a proxy ">" is what the client sends.
  if (options_.is_proxy()) std::swap(received, sent);
  std::array<Amount, 2> result{received, sent};
  for (const Way way : {Way::kIn, Way::kOut}) {
    Amount& amount = result[static_cast<std::size_t>(way)];
    amount.messages = view_.counts(way).messages;
    amount.heartbeats = view_.counts(way).heartbeats;
  }
  return result;
}

void Monitor::show_status() {
  const auto now = steady_clock::now();
  const std::array<Amount, 2> amounts = this->amounts();
  using DoubleSeconds = std::chrono::duration<double>;
  const double seconds = std::max(
      DoubleSeconds(now - std::max(status_time_, began_)).count(), 0.001);
  std::string text = is_connected_
                         ? fmt::format("connected for {:.1f} s",
                                       DoubleSeconds(now - began_).count())
                         : "not connected";
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    const Amount& amount = amounts[i];
    const auto rate = [&](std::uint64_t Amount::*count) {
      return static_cast<double>(amount.*count - shown_[i].*count) / seconds;
    };
    text += fmt::format(
        "; {} {} ({:.0f}/s) in {} ({:.1f}/s)", i == 0 ? "<" : ">",
        counted(amount.bytes, "byte"), rate(&Amount::bytes),
        counted(amount.messages, "message"), rate(&Amount::messages));
    text += last_text(amount);
  }
  remark(text);
  shown_ = amounts;
  status_time_ = now;
}

void Monitor::show_totals() {
  const std::array<Amount, 2> amounts = this->amounts();
  std::string text = "in all";
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    text += fmt::format("{} {} {} in {}{}", i == 0 ? "" : ";",
                        i == 0 ? "<" : ">", counted(amounts[i].bytes, "byte"),
                        counted(amounts[i].messages, "message"),
                        last_text(amounts[i]));
  }
  remark(text);
}

std::string Monitor::last_text(const Amount& amount) {
  std::string text;
  if (amount.heartbeats > 0) {
    text += ", " + counted(amount.heartbeats, "heartbeat");
  }
  if (amount.last) {
    // The library may note it some milliseconds late.
    const std::chrono::duration<double> ago =
        steady_clock::now() - *amount.last;
    text += fmt::format(", the last {:.1f} s ago", std::max(ago.count(), 0.0));
  }
  return text;
}

// --- Only a recording ---

int show_recording(const Options& options,
                   const tcpip_testing::Recording& recording) {
  using tcpip_testing::Direction;
  using tcpip_testing::Recording;
  Signals signals(false);
  bool has_ended = false;
  std::optional<Output> output;
  output.emplace(signals.fd(), [&] {
    while (const std::optional<int> signal = signals.take()) {
      if (*signal == SIGWINCH) continue;
      has_ended = true;
      output->end_soon();
    }
  });
  // A recording does not know what time it was.
  ViewOptions view_options = options.view;
  if (view_options.time != TimeStyle::kNone) {
    view_options.time = TimeStyle::kElapsed;
  }
  View view(view_options, has_color(options.color));
  const TimePoint began{};
  view.begin(began);
  std::array<std::uint64_t, 2> positions{};
  TimePoint time = began;
  for (const Recording::Piece& piece : recording.pieces) {
    time = began + piece.time;
    view.tick(time);
    const bool is_out = piece.direction == Direction::kToServer;
    if (piece.bytes.empty()) {
      view.remark(time,
                  is_out ? "the client has ended" : "the server has ended");
    } else {
      std::uint64_t& position = positions[is_out ? 1 : 0];
      view.show({.way = is_out ? Way::kOut : Way::kIn,
                 .time = time,
                 .bytes = piece.bytes,
                 .position = position});
      position += piece.bytes.size();
    }
    output->write(view.take());
    if (has_ended || !output->is_open()) return kExitAsAsked;
    if (output->error() != 0) return complain_of_output(output->error());
  }
  view.end(time);
  output->write(view.take());
  if (output->error() != 0) return complain_of_output(output->error());
  return kExitAsAsked;
}

}  // namespace

int run_monitor(const Options& options) {
  std::optional<tcpip_testing::Recording> replay;
  try {
    // Once: it may be a pipe.
    if (!options.replay.empty()) {
      replay = tcpip_testing::Recording::load(options.replay);
    }
  } catch (const std::bad_alloc&) {
    return complain(kExitFile, options.replay + ": out of memory");
  } catch (const std::exception& e) {
    return complain(kExitUsage, e.what());
  }
  std::optional<Monitor> monitor;
  try {
    if (!options.connect && !options.listen) {
      return show_recording(options, replay.value());
    }
    monitor.emplace(options, std::move(replay));
  } catch (const std::system_error& e) {
    return complain(kExitFile, e.what());
  } catch (const std::invalid_argument& e) {
    return complain(kExitUsage, e.what());
  }
  return monitor->run();
}

}  // namespace tcpip_monitor
