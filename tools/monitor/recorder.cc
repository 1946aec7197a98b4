#include "tools/monitor/recorder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "tcpip/testing/recording.h"

namespace tcpip_monitor {
namespace {

using std::chrono::microseconds;
using tcpip_testing::Direction;
using tcpip_testing::Recording;

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

bool is_fifo(const std::string& path) {
  struct ::stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
}

// A FIFO that nobody reads would keep open() waiting: that is an error.
tcpip::UniqueFd open_to_write(const std::string& path) {
  const bool may_wait = is_fifo(path);
  tcpip::UniqueFd file(::open(
      path.c_str(),
      O_WRONLY | O_CREAT | O_CLOEXEC | (may_wait ? O_NONBLOCK : 0), 0666));
  if (!file) {
    const int error = errno;
    const bool is_unread = may_wait && error == ENXIO;
    fail(error,
         "cannot write " + path + (is_unread ? ": nobody reads it" : ""));
  }
  if (may_wait) ::fcntl(file.get(), F_SETFL, O_WRONLY);
  return file;
}

// Recording knows the format of whole files only.
std::string line_of(Recording::Piece piece) {
  const std::size_t head = Recording().text().size();
  Recording recording;
  recording.pieces.push_back(std::move(piece));
  return recording.text().substr(head);
}

}  // namespace

Recorder::Recorder(std::string path, Report report)
    : path_(std::move(path)), report_(std::move(report)) {
  open(path_);
}

void Recorder::open(const std::string& path) {
  file_ = {};
  tcpip::UniqueFd file = open_to_write(path);
  struct ::stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    // An empty file may be another recorder's, which waits for a connection.
    // Where the file system has no locks, nobody can tell.
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      fail(EWOULDBLOCK, "another program records into " + path);
    }
    // Only now: it may have been written and let go of before.
    if (::fstat(file.get(), &status) == 0 && status.st_size > 0) {
      fail(EEXIST, "will not overwrite " + path);
    }
  }
  file_ = std::move(file);
  current_path_ = path;
  last_ = {};
  ended_ = {};
}

void Recorder::begin(TimePoint time) {
  if (!file_) return;
  if (++connections_ > 1) {
    try {
      open(fmt::format("{}.{}", path_, connections_));
    } catch (const std::system_error& e) {
      report_(fmt::format("{}; recording has ended", e.what()));
      return;
    }
  }
  began_ = time;
  write(Recording().text());
}

void Recorder::add(Direction direction, TimePoint time,
                   std::string_view bytes) {
  if (!file_ || ended_[static_cast<std::size_t>(direction)]) return;
  // The system's clock may have been set back.
  last_ =
      std::max(last_, std::chrono::duration_cast<microseconds>(time - began_));
  ended_[static_cast<std::size_t>(direction)] = bytes.empty();
  write(line_of({direction, last_, std::string(bytes)}));
}

void Recorder::add_end(Direction direction, TimePoint time) {
  add(direction, time, {});
}

void Recorder::give_up(const std::string& why) {
  if (!file_) return;
  write(fmt::format("# {}\n", why));
  if (!file_) return;
  file_ = {};
  report_(fmt::format("{}: {}; recording has ended", current_path_, why));
}

void Recorder::write(std::string_view text) {
  const ::off_t begin = ::lseek(file_.get(), 0, SEEK_END);
  for (std::size_t written = 0; written < text.size();) {
    const ::ssize_t n =
        ::write(file_.get(), text.data() + written, text.size() - written);
    if (n >= 0) {
      written += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      const std::error_code error(errno, std::generic_category());
      if (begin >= 0 && ::ftruncate(file_.get(), begin) != 0) {
        // Nothing can be done: the file ends with a part of a line.
      }
      file_ = {};
      report_(
          fmt::format("cannot write {}: {}; recording has ended, the "
                      "exchange goes on",
                      current_path_, error.message()));
      return;
    }
  }
}

}  // namespace tcpip_monitor
