// A child process that a test talks to through its standard input and output.
//
//   Subprocess child({"python3", "tests/peer.py"});
//   child.write_line("go");
//   EXPECT_EQ(child.read_line(), "gone");
//   EXPECT_EQ(child.wait(), 0);
//
// Whatever happens, the destructor leaves neither process nor descriptor. All
// waiting has a deadline and throws std::runtime_error, with the program's name
// and what was waited for, so that a test fails instead of hanging.
//
// Threads: one at a time; send_signal() may be called from any.
#ifndef TESTS_SUPPORT_SUBPROCESS_H_
#define TESTS_SUPPORT_SUBPROCESS_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip_tests {

// The path of a file that Bazel knows by that name relative to the workspace,
// be it of a source file or of a program that was built. Empty if there is
// none.
std::string find_file(const std::string& name);

class Subprocess {
 public:
  // Looks for a program without a slash along PATH. What the child writes to
  // its standard error goes to the test's, or into read_line() too. Throws
  // std::system_error if there is no such program.
  enum class Errors { kInherited, kWithOutput };
  explicit Subprocess(std::vector<std::string> arguments,
                      Errors errors = Errors::kInherited);
  ~Subprocess();  // kills it
  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  // The next line, without its end.
  std::string read_line();
  // Reads lines until one starts with `start`; returns the rest of that one.
  std::string read_line_after(std::string_view start);
  // All up to the end of its output.
  std::string read_all();
  void write_line(std::string_view line);
  void close_input() { input_ = {}; }

  void send_signal(int number);
  // Waits for the end of it. The exit status, or minus the signal's number.
  int wait();

 private:
  bool fill(const tcpip::Deadline& deadline);
  [[noreturn]] void fail(const std::string& what);

  std::string name_;
  pid_t pid_ = -1;  // -1 once it is reaped
  int status_ = 0;
  tcpip::UniqueFd input_;
  tcpip::UniqueFd output_;
  std::string buffer_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SUBPROCESS_H_
