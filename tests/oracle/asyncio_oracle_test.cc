// The same random scripts for CPython's StreamReader and StreamWriter and for
// ours: results, errors with their fields, and what is buffered after each step
// must agree, except for the differences below, which PORTING.md lists.
//
// TCPIP_ORACLE_SCRIPTS sets how many scripts for readers, to which a quarter of
// that comes for writers; TCPIP_ORACLE_SEED where they begin. A million or so
// belongs on a machine with time to spare.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/open_connection.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/wait.h"
#include "tests/support/loopback.h"
#include "tests/support/oracle.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using tcpip::Deadline;
using tcpip::Wait;

// What may differ: the name that the oracle gives it, and PORTING.md's words.
struct Difference {
  const char* name;
  const char* python;  // the row's first column, or a part of it
  const char* words;
};
constexpr Difference kDifferences[] = {
    {"close-drops-unsent", "`writer.close()`",
     "sends what the kernel takes at once and drops the rest"},
    {"close-ends-reading", "`writer.close()`",
     "Ends reading: what the reader has not buffered is dropped too."},
    {"drain-throws-what-ended-the-writing", "`await writer.drain()`",
     "then it throws the error of that write"},
    {"drain-waits-for-all", "`await writer.drain()`",
     "waits until all is sent, not for a low-water mark"},
    {"drain-with-nothing-unsent-is-no-error", "`await writer.drain()`",
     "If nothing is unsent it does not throw, unless a write has failed"},
    {"error-once-a-read-has-met-it", "`reader.exception()`",
     "once a read has met the error"},
    {"failed-write-does-not-end-reading", "`reader.read(n)`",
     "A failed write does not end reading"},
    {"interrupted-read-all-keeps-bytes", "`reader.read()`",
     "interrupted, it keeps what came, asyncio drops it"},
    {"loss-is-known-once-met", "`writer.is_closing()`",
     "true after a loss only once a read or a write has found it"},
    {"negative-read-throws", "`reader.read()`",
     "`read(-1)` throws `std::invalid_argument`"},
    {"readline-over-limit-is-LimitOverrunError", "`reader.readline()`",
     "over the limit: `LimitOverrunError` where asyncio has `ValueError`"},
    {"reset-delivers-first", "`reader.read(n)`",
     "bytes that came before a reset are delivered first, then the error"},
    {"rest-of-a-dropped-line-is-dropped", "`reader.readline()`",
     "the rest of that line is dropped too when it comes; asyncio takes it for "
     "a line"},
    {"second-reader-always-throws", "two readers at once",
     "also if the second would not have to wait"},
    {"wait-closed-ignores-a-loss", "`await writer.wait_closed()`",
     "no error if the connection is lost"},
    {"write-after-close-throws", "`writer.write(data)`",
     "after a loss or `close()` it throws `ConnectionError`"},
    {"write-after-eof-is-BrokenPipeError", "`writer.write(data)`",
     "After `write_eof()`: `BrokenPipeError`, not `RuntimeError`."},
    {"write-after-loss-throws", "`writer.write(data)`",
     "after a loss or `close()` it throws `ConnectionError`"},
    {"write-eof-after-close-throws", "`writer.write_eof()`",
     "after `close()` it throws `ConnectionError`; asyncio does nothing"},
};

std::vector<std::string> all_bytes_of(std::istringstream& words) {
  std::vector<std::string> result;
  for (std::string each; words >> each;) result.push_back(bytes_of(each));
  return result;
}

// Runs a call and says in the oracle's words what came of it.
template <class Call>
std::string words_for(const Call& call) {
  try {
    return call();
  } catch (const tcpip::TimeoutError&) {
    return "pending";
  } catch (const tcpip::IncompleteReadError& e) {
    return "IncompleteReadError " + hex_of(e.partial()) + " " +
           (e.expected() ? std::to_string(*e.expected()) : "none");
  } catch (const tcpip::LimitOverrunError& e) {
    return "LimitOverrunError " + std::to_string(e.consumed());
  } catch (const tcpip::ConnectionResetError&) {
    return "ConnectionResetError";
  } catch (const tcpip::ConnectionAbortedError&) {
    return "ConnectionAbortedError";
  } catch (const tcpip::BrokenPipeError&) {
    return "BrokenPipeError";
  } catch (const tcpip::CancelledError&) {
    return "CancelledError";
  } catch (const std::invalid_argument&) {
    return "ValueError";
  } catch (const std::logic_error&) {
    return "RuntimeError";
  }
}

// One of several calls that must not differ but in how they return the bytes.
struct Read {
  std::string method;
  std::string form;
  std::vector<std::string> arguments;

  explicit Read(std::istringstream& words) {
    std::getline(words >> std::ws, method, '.');
    words >> form;
    for (std::string each; words >> each;) arguments.push_back(each);
  }

  // A negative number becomes what a program that ignores the sign passes.
  std::size_t size() const {
    return static_cast<std::size_t>(std::stoll(arguments.at(0)));
  }

  // Nothing if it says that it would wait; some forms throw for that.
  std::optional<std::string> from(tcpip::StreamReader& reader) const {
    const Wait now = Wait::none();
    if (method == "read") {
      if (form == "try") return reader.try_read(size());
      if (form == "view") return std::string(reader.read_view(size(), now));
      return reader.read(size(), now);
    }
    if (method == "all") {
      constexpr std::size_t kPlenty = 100'000'000;
      if (form == "max") return reader.read_all(kPlenty, now);
      return reader.read_all(now);
    }
    if (method == "line") {
      if (form == "try") return reader.try_read_line();
      if (form == "view") return std::string(reader.read_line_view(now));
      return reader.read_line(now);
    }
    if (method == "exactly") {
      if (form == "try") return reader.try_read_exactly(size());
      if (form == "view") {
        return std::string(reader.read_exactly_view(size(), now));
      }
      if (form == "span") return exactly_into_span(reader);
      return reader.read_exactly(size(), now);
    }
    std::vector<std::string> separators;
    for (const std::string& each : arguments) {
      separators.push_back(bytes_of(each));
    }
    const std::vector<std::string_view> views(separators.begin(),
                                              separators.end());
    if (form == "span") return reader.read_until(views, now);
    if (method == "until") return until(reader, views.at(0));
    switch (views.size()) {
      case 0:
        return until(reader, tcpip::StreamReader::Separators{});
      case 1:
        return until(reader, {views[0]});
      case 2:
        return until(reader, {views[0], views[1]});
      default:
        return until(reader, {views.at(0), views.at(1), views.at(2)});
    }
  }

 private:
  std::optional<std::string> exactly_into_span(
      tcpip::StreamReader& reader) const {
    constexpr std::byte kUntouched{0xa5};
    std::vector<std::byte> out(std::min<std::size_t>(size(), 100'000),
                               kUntouched);
    try {
      reader.read_exactly(std::span(out), Wait::none());
    } catch (...) {
      EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](std::byte each) {
        return each == kUntouched;
      })) << "a read that failed has written";
      throw;
    }
    std::string result;
    for (const std::byte each : out) result += static_cast<char>(each);
    return result;
  }

  template <class Separators>
  std::optional<std::string> until(tcpip::StreamReader& reader,
                                   const Separators& separators) const {
    if (form == "try") return reader.try_read_until(separators);
    if (form == "view") {
      return std::string(reader.read_until_view(separators, Wait::none()));
    }
    return reader.read_until(separators, Wait::none());
  }
  std::optional<std::string> until(
      tcpip::StreamReader& reader,
      tcpip::StreamReader::Separators separators) const {
    return until<tcpip::StreamReader::Separators>(reader, separators);
  }
};

std::string words_for(const Read& read, tcpip::StreamReader& reader) {
  return words_for([&] {
    const std::optional<std::string> data = read.from(reader);
    return data ? "data " + hex_of(*data) : std::string("pending");
  });
}

int held_by_kernel(int fd) {
  int count = 0;
  if (::ioctl(fd, FIONREAD, &count) != 0) return -1;
  return count;
}

// One connection of ours, and its peer's end.
class Script {
 public:
  virtual ~Script() = default;
  // Does what a line says and returns the result.
  virtual std::string step(const std::string& what,
                           std::istringstream& words) = 0;
};

class ReaderScript final : public Script {
 public:
  explicit ReaderScript(std::size_t limit) {
    FdPair pair = fd_pair(Transport::kUnix);
    peer_ = std::move(pair.peer);
    ours_ = tcpip::open_connection(std::move(pair.ours), limit);
  }

  std::string step(const std::string& what,
                   std::istringstream& words) override {
    if (what == "exception") return error();
    if (what == "limit") return make_with_limit(words);
    const std::string result = result_of(what, words);
    return result + " [" + std::to_string(buffered()) + "]";
  }

 private:
  std::string result_of(const std::string& what, std::istringstream& words) {
    if (what == "feed") {
      std::string bytes;
      words >> bytes;
      send_all(peer_, bytes_of(bytes));
      return "ok";
    }
    if (what == "eof") {
      half_close(peer_);
      return "ok";
    }
    if (what == "eof.close") {
      peer_.reset();
      return "ok";
    }
    if (what == "reset") {
      // A Unix-domain peer that closes with bytes unread is a reset at the
      // other end, behind what that has yet to read.
      ours_.writer.write("unread");
      peer_.reset();
      return "ok";
    }
    if (what == "at_eof") return ours_.reader.at_eof() ? "true" : "false";
    if (what == "two") return second_read(words);
    // The form is part of the first word.
    std::istringstream again(words.str());
    return words_for(Read(again), ours_.reader);
  }

  // A read while another waits, which has taken what came for it.
  std::string second_read(std::istringstream& words) {
    std::string bytes;
    words >> bytes;
    const Read second(words);
    std::stop_source stop;
    std::string first;
    std::string result;
    {
      std::jthread waiting([&] {
        first = words_for([&] {
          constexpr std::size_t kMore = 1'000'000;
          return ours_.reader.read_exactly(
              kMore, Wait(Deadline::after(kPatience), stop.get_token()));
        });
      });
      send_all(peer_, bytes_of(bytes));
      const Deadline deadline = Deadline::after(kPatience);
      while (held_by_kernel(descriptor()) > 0 && !deadline.has_passed()) {
        ::poll(nullptr, 0, 1);
      }
      result = words_for(second, ours_.reader);
      stop.request_stop();
    }
    EXPECT_EQ(first, "CancelledError") << "of the first of two reads";
    return result;
  }

  std::string error() const {
    const std::error_code error = ours_.reader.error();
    if (!error) return "none";
    if (error == std::errc::connection_reset) return "ConnectionResetError";
    return error.message();
  }

  static std::string make_with_limit(std::istringstream& words) {
    std::size_t limit = 0;
    words >> limit;
    return words_for([&] {
      const tcpip::StreamReader reader(nullptr, limit);
      return std::string("ok");
    });
  }

  // The bytes that came and were not read, wherever they are: asyncio's buffer.
  // What is buffered is always the end of what was fed, so that buffers of
  // equal length have equal contents.
  std::size_t buffered() const {
    return ours_.reader.buffered() +
           static_cast<std::size_t>(held_by_kernel(descriptor()));
  }
  int descriptor() const { return ours_.writer.native_handle(); }

  tcpip::UniqueFd peer_;
  tcpip::Streams ours_;
};

class WriterScript final : public Script {
 public:
  explicit WriterScript(Buffers buffers) {
    FdPair pair = fd_pair(Transport::kUnix, buffers);
    peer_ = std::move(pair.peer);
    ours_ = tcpip::open_connection(std::move(pair.ours));
  }

  std::string step(const std::string& what,
                   std::istringstream& words) override {
    return words_for([&] { return result_of(what, words); });
  }

 private:
  std::string result_of(const std::string& what, std::istringstream& words) {
    tcpip::StreamWriter& writer = ours_.writer;
    if (what == "can_write_eof") return writer.can_write_eof() ? kTrue : kFalse;
    if (what == "is_closing") return writer.is_closing() ? kTrue : kFalse;
    if (what == "read") {
      return "data " + hex_of(ours_.reader.read(1'000'000, Wait::none()));
    }
    if (what == "received") return received();
    if (what == "received_of") {
      std::size_t size = 0;
      words >> size;
      const std::string end = peer_reads();
      // A prefix, or there is something wrong with it.
      EXPECT_EQ(taken_, std::string(taken_.size(), 'x'));
      return (taken_.size() == size ? "all " : "part ") + end;
    }
    act(what, words);
    return "ok";
  }

  void act(const std::string& what, std::istringstream& words) {
    tcpip::StreamWriter& writer = ours_.writer;
    if (what == "write") {
      writer.write(all_bytes_of(words).at(0));
    } else if (what == "writelines") {
      const std::vector<std::string> parts = all_bytes_of(words);
      writer.write_lines(
          std::vector<std::string_view>(parts.begin(), parts.end()));
    } else if (what == "fill") {
      std::size_t size = 0;
      words >> size;
      writer.write(std::string(size, 'x'));
      EXPECT_GT(writer.unsent(), 0u) << "too little to fill the kernel";
    } else if (what == "drain") {
      writer.drain(Wait::none());
    } else if (what == "write_eof") {
      writer.write_eof();
    } else if (what == "close") {
      writer.close();
    } else if (what == "wait_closed") {
      // Without waiting for the peer, which reads in a step of its own.
      tcpip::close_stream_writer(writer, Wait::none());
    } else if (what == "sends") {
      send_all(peer_, all_bytes_of(words).at(0));
    } else if (what == "gone") {
      peer_.reset();
    } else if (what == "through") {
      drain_while_peer_reads();
    } else {
      ADD_FAILURE() << "the oracle has a step more: " << what;
    }
  }

  void drain_while_peer_reads() {
    const Deadline deadline = Deadline::after(kPatience);
    for (;;) {
      peer_reads();
      try {
        ours_.writer.drain(Wait::none());
        return;
      } catch (const tcpip::TimeoutError&) {
        if (deadline.has_passed()) throw;
      }
    }
  }

  std::string received() {
    const std::string end = peer_reads();
    return "data " + hex_of(std::exchange(taken_, {})) + " " + end;
  }

  // Moves what has come to the peer to taken_; says if it was the end.
  std::string peer_reads() {
    std::array<char, 65536> bytes;
    for (;;) {
      const ssize_t got =
          ::recv(peer_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (got == 0) return "eof";
      if (got > 0) {
        taken_.append(bytes.data(), static_cast<std::size_t>(got));
      } else if (errno == EAGAIN) {
        return "open";
      } else if (errno != EINTR) {
        return std::generic_category().message(errno);
      }
    }
  }

  static constexpr const char* kTrue = "true";
  static constexpr const char* kFalse = "false";

  tcpip::UniqueFd peer_;
  tcpip::Streams ours_;
  std::string taken_;
};

// Compares script by script with what an oracle says.
class Comparison {
 public:
  // Stops at the first script that does not agree.
  void run(int seed, int readers, int writers) {
    Subprocess oracle({"python3", find_file("tests/oracle/asyncio_oracle.py"),
                       std::to_string(seed), std::to_string(readers),
                       std::to_string(writers)});
    std::istringstream output(oracle.read_all());
    EXPECT_EQ(oracle.wait(), 0);
    for (std::string line; std::getline(output, line);) {
      take(line);
      if (testing::Test::HasFailure()) return;
    }
  }

  int scripts() const { return scripts_; }
  int steps() const { return steps_; }
  int times(const std::string& name) const {
    const auto found = times_.find(name);
    return found == times_.end() ? 0 : found->second;
  }

 private:
  struct Known {
    bool may_agree = false;
    std::string name;
    std::string expected;
  };

  void take(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "reader" || what == "writer" || what == "small") {
      begin(what, words);
      history_ = line + "\n";
      return;
    }
    history_ += line + "\n";
    if (what == "=") {
      compare(line.substr(2));
    } else if (what == "~" || what == "?") {
      Known known;
      known.may_agree = what == "?";
      words >> known.name >> std::ws;
      std::getline(words, known.expected);
      known_ = known;
    } else {
      got_ = script_->step(what, words);
    }
  }

  void begin(const std::string& what, std::istringstream& words) {
    ++scripts_;
    if (what == "reader") {
      std::size_t limit = 0;
      words >> limit;
      script_ = std::make_unique<ReaderScript>(limit);
    } else {
      script_ = std::make_unique<WriterScript>(
          what == "small" ? Buffers::kSmall : Buffers::kDefault);
    }
  }

  void compare(const std::string& asyncio) {
    ++steps_;
    const std::optional<Known> known = std::exchange(known_, {});
    if (!known || (known->may_agree && got_ == asyncio)) {
      EXPECT_EQ(got_, asyncio) << history_;
      return;
    }
    EXPECT_EQ(got_, known->expected) << known->name << "\n" << history_;
    EXPECT_TRUE(std::any_of(
        std::begin(kDifferences), std::end(kDifferences),
        [&](const Difference& each) { return each.name == known->name; }))
        << "no such difference: " << known->name << "\n"
        << history_;
    ++times_[known->name];
  }

  std::unique_ptr<Script> script_;
  std::string history_;  // of this script, to be read when it fails
  std::string got_;
  std::optional<Known> known_;
  std::map<std::string, int> times_;
  int scripts_ = 0;
  int steps_ = 0;
};

TEST(AsyncioOracle, StreamsAgreeOnRandomScripts) {
  const int scripts = from_environment("TCPIP_ORACLE_SCRIPTS", 2000);
  const int seed = from_environment("TCPIP_ORACLE_SEED", 1);
  constexpr int kBatch = 500;
  Comparison comparison;
  for (int done = 0; done < scripts && !HasFailure(); done += kBatch) {
    const int readers = std::min(kBatch, scripts - done);
    comparison.run(seed + done, readers, (readers + 3) / 4);
  }
  if (HasFailure()) return;
  EXPECT_GE(comparison.scripts(), scripts);
  EXPECT_GT(comparison.steps(), 5 * scripts) << "the oracle said too little";
  RecordProperty("scripts", comparison.scripts());
  RecordProperty("steps", comparison.steps());
  // A difference that has gone must go from the table too. The rarest comes
  // some times in a thousand scripts.
  constexpr int kEnough = 2000;
  for (const Difference& each : kDifferences) {
    if (scripts < kEnough) break;
    EXPECT_GT(comparison.times(each.name), 0) << each.name << " never occurs";
  }
}

TEST(AsyncioOracle, PortingListsEachDifference) {
  std::ifstream file(find_file("PORTING.md"));
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(line);
  ASSERT_FALSE(rows.empty());
  std::set<std::string> names;
  for (const Difference& each : kDifferences) {
    EXPECT_TRUE(names.insert(each.name).second) << each.name << " twice";
    // In one row: the Python name in its first column, the words behind it.
    EXPECT_TRUE(std::any_of(rows.begin(), rows.end(),
                            [&](const std::string& row) {
                              const std::size_t column = row.find(" | ");
                              return column != std::string::npos &&
                                     row.find(each.python) < column &&
                                     row.find(each.words, column) !=
                                         std::string::npos;
                            }))
        << each.name << ": no row for " << each.python << " says \""
        << each.words << "\"";
  }
}

}  // namespace
}  // namespace tcpip_tests
