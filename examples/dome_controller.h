// The controller of a telescope's dome, as a server: an example of a class that
// is made of this library's, and of how to test it (dome_controller_test.cc).
//
// It obeys one client at a time. Each command is a line, and so is each answer:
//
//   move DEGREES   ok                                (0 <= DEGREES < 360)
//   open           ok                                (the shutter)
//   close          ok
//   status         azimuth 120.5, shutter open
//   anything else  error: ...
//
// The shutter closes when the connection is lost, so that nobody leaves the
// telescope in the rain.
//
// Threads: every member may be called from any thread.
#ifndef EXAMPLES_DOME_CONTROLLER_H_
#define EXAMPLES_DOME_CONTROLLER_H_

#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "tcpip/connection_event.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"

class DomeController {
 public:
  struct Options {
    std::optional<std::string> host = {};
    int port = 4010;
    tcpip::Log log = {};
    // Called after the controller has done its part.
    std::function<void(const tcpip::ConnectionEvent&)> connect_callback = {};
  };

  explicit DomeController(Options options);

  void start() { server_.start(); }
  void close() { server_.close(); }
  int port() const { return server_.port(); }
  bool connected() const { return server_.connected(); }

  double azimuth() const;  // degrees
  bool is_open() const;

 private:
  std::string obey(const std::string& command);
  void on_connection(const tcpip::ConnectionEvent& event);

  const Options options_;
  mutable std::mutex mutex_;
  double azimuth_ = 0;    // guarded by mutex_
  bool is_open_ = false;  // guarded by mutex_
  // Last: its threads use the others.
  tcpip::OneClientReadLoopServer server_;
};

#endif  // EXAMPLES_DOME_CONTROLLER_H_
