#include "examples/dome_controller.h"

#include <chrono>
#include <sstream>
#include <stop_token>
#include <utility>

DomeController::DomeController(Options options)
    : options_(std::move(options)),
      server_({.host = options_.host,
               .port = options_.port,
               .name = "dome",
               .log = options_.log,
               .connect_callback =
                   [this](const tcpip::ConnectionEvent& event) {
                     on_connection(event);
                   }},
              [this](tcpip::Connection& client, std::stop_token stop) {
                const std::string answer = obey(client.read_str(stop));
                client.write_str(answer, {std::chrono::seconds(5), stop});
              }) {}

double DomeController::azimuth() const {
  const std::lock_guard lock(mutex_);
  return azimuth_;
}

bool DomeController::is_open() const {
  const std::lock_guard lock(mutex_);
  return is_open_;
}

std::string DomeController::obey(const std::string& command) {
  const std::lock_guard lock(mutex_);
  std::istringstream words(command);
  std::string verb;
  words >> verb;
  if (verb == "move") {
    double degrees = 0;
    if (!(words >> degrees && degrees >= 0 && degrees < 360)) {
      return "error: move needs an azimuth of 0 to 360 degrees";
    }
    azimuth_ = degrees;
  } else if (verb == "open" || verb == "close") {
    is_open_ = verb == "open";
  } else if (verb == "status") {
    std::ostringstream status;
    status << "azimuth " << azimuth_ << ", shutter "
           << (is_open_ ? "open" : "closed");
    return status.str();
  } else {
    return "error: unknown command: " + command;
  }
  return "ok";
}

void DomeController::on_connection(const tcpip::ConnectionEvent& event) {
  if (!event.connected) {
    const std::lock_guard lock(mutex_);
    is_open_ = false;
  }
  if (options_.connect_callback) options_.connect_callback(event);
}
