#include "tests/support/subprocess.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tests/support/loopback.h"
#include "tests/support/wait_until.h"

extern char** environ;

namespace tcpip_tests {
namespace {

using tcpip::Deadline;
using tcpip::UniqueFd;

// Sockets, not pipes: to write to a pipe whose reader is gone raises SIGPIPE.
// All are close-on-exec: no child holds another one's.
struct Channel {
  Channel() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
      throw std::system_error(errno, std::generic_category(), "socketpair");
    }
    ours = UniqueFd(fds[0]);
    childs = UniqueFd(fds[1]);
  }
  UniqueFd ours;
  UniqueFd childs;
};

// Runs while other threads do, so it leaves the copying of the process, and all
// that may not be done in between, to posix_spawn.
pid_t spawn(const std::vector<std::string>& arguments, int input, int output,
            Subprocess::Errors errors) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  if (errors == Subprocess::Errors::kWithOutput) {
    ::posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  }

  // A thread that blocks signals must not pass that on.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  sigaddset(&signals, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, &attributes,
                                   argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::system_error(error, std::generic_category(), arguments[0]);
  }
  return pid;
}

bool ready(int fd, short events, const Deadline& deadline) {
  pollfd poll_fd{fd, events, 0};
  while (!deadline.has_passed()) {
    // Looks at the clock again now and then: coarse is good enough here.
    const int count = ::poll(&poll_fd, 1, 100);
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "poll");
    }
  }
  return false;
}

}  // namespace

std::string find_file(const std::string& name) {
  std::vector<std::string> places;
  const char* const runfiles = std::getenv("TEST_SRCDIR");
  const char* const workspace = std::getenv("TEST_WORKSPACE");
  if (runfiles != nullptr && workspace != nullptr) {
    places.push_back(std::string(runfiles) + "/" + workspace + "/");
  }
  // Run by hand, from the top of the workspace.
  places.push_back("bazel-bin/");
  places.push_back("");
  for (const std::string& place : places) {
    const std::string path = place + name;
    if (::access(path.c_str(), R_OK) == 0) return path;
  }
  return {};
}

Subprocess::Subprocess(std::vector<std::string> arguments, Errors errors)
    : name_(arguments.at(0)) {
  Channel input;
  Channel output;
  pid_ = spawn(arguments, input.childs.get(), output.childs.get(), errors);
  input_ = std::move(input.ours);
  output_ = std::move(output.ours);
}

Subprocess::~Subprocess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Subprocess::fail(const std::string& what) {
  throw std::runtime_error(name_ + ": " + what +
                           (buffer_.empty() ? "" : "; it said: " + buffer_));
}

// Reads some of its output; false at the end of that.
bool Subprocess::fill(const Deadline& deadline) {
  if (!ready(output_.get(), POLLIN, deadline)) fail("no output in time");
  char chunk[4096];
  const ssize_t count = ::read(output_.get(), chunk, sizeof(chunk));
  if (count < 0) {
    throw std::system_error(errno, std::generic_category(), "read");
  }
  buffer_.append(chunk, static_cast<std::size_t>(count));
  return count > 0;
}

std::string Subprocess::read_line() {
  const Deadline deadline = Deadline::after(kPatience);
  std::size_t end;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    if (!fill(deadline)) fail("the output ended before the line did");
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return line;
}

std::string Subprocess::read_line_after(std::string_view start) {
  for (;;) {
    const std::string line = read_line();
    if (line.starts_with(start)) return line.substr(start.size());
  }
}

std::string Subprocess::read_all() {
  const Deadline deadline = Deadline::after(kPatience);
  while (fill(deadline)) {
  }
  return std::exchange(buffer_, {});
}

void Subprocess::write_line(std::string_view line) {
  const Deadline deadline = Deadline::after(kPatience);
  std::string rest(line);
  rest += '\n';
  while (!rest.empty()) {
    if (!ready(input_.get(), POLLOUT, deadline)) fail("takes no input");
    const ssize_t count =
        ::send(input_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count < 0) fail("takes no input any more");
    rest.erase(0, static_cast<std::size_t>(count));
  }
}

void Subprocess::send_signal(int number) { ::kill(pid_, number); }

int Subprocess::wait() {
  if (pid_ >= 0) {
    const bool ended = wait_until(
        [this] { return ::waitpid(pid_, &status_, WNOHANG) == pid_; },
        kPatience);
    if (!ended) fail("does not end");
    pid_ = -1;
  }
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
}

}  // namespace tcpip_tests
