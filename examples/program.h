// What the examples need and what is not about this library: options on the
// command line, and the end by Ctrl-C.
//
// Threads: parse_options() and SignalStop are for main(), before the first
// thread is started. Any thread may use the stop token.
#ifndef EXAMPLES_PROGRAM_H_
#define EXAMPLES_PROGRAM_H_

#include <getopt.h>
#include <pthread.h>
#include <signal.h>

#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace examples {

// --NAME VALUE on the command line, and the variable that gets the value: a
// number or a std::string. For a bool it is --NAME alone.
struct Option {
  template <class T>
  Option(const char* option_name, T& variable)
      : name(option_name),
        has_value(!std::is_same_v<T, bool>),
        set([&variable](const char* text) {
          if constexpr (std::is_same_v<T, std::string>) {
            variable = text;
            return true;
          } else if constexpr (std::is_same_v<T, bool>) {
            return variable = true;
          } else {
            std::istringstream stream(text);
            return stream >> variable && stream.eof();
          }
        }) {}

  const char* name;
  bool has_value;
  std::function<bool(const char* text)> set;
};

// Returns the arguments that are no options. If the command line is wrong, says
// so and ends the program with status 2.
inline std::vector<std::string> parse_options(
    int argc, char** argv, std::initializer_list<Option> options) {
  std::vector<option> table;
  for (const Option& o : options) {
    table.push_back(
        {o.name, o.has_value ? required_argument : no_argument, nullptr, 0});
  }
  table.push_back({});
  int index = 0;
  for (int c;
       (c = ::getopt_long(argc, argv, "", table.data(), &index)) != -1;) {
    if (c != 0) std::exit(2);  // getopt_long() has said why
    if (const Option& o = options.begin()[index]; !o.set(optarg)) {
      std::cerr << argv[0] << ": --" << o.name << " " << optarg
                << " makes no sense" << std::endl;
      std::exit(2);
    }
  }
  return {argv + optind, argv + argc};
}

// Turns Ctrl-C and SIGTERM into a stop request. To be made before any thread
// is started, so that all threads block the two signals.
class SignalStop {
 public:
  SignalStop() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::jthread([this] {
      int signal = 0;
      ::sigwait(&signals_, &signal);
      stop_.request_stop();
    });
  }
  // Ends the thread with a signal of its own.
  ~SignalStop() { ::pthread_kill(thread_.native_handle(), SIGTERM); }
  SignalStop(const SignalStop&) = delete;
  SignalStop& operator=(const SignalStop&) = delete;

  std::stop_token token() const { return stop_.get_token(); }

 private:
  sigset_t signals_;
  std::stop_source stop_;
  std::jthread thread_;
};

}  // namespace examples

#endif  // EXAMPLES_PROGRAM_H_
