// The soak as a program: soak [--minutes N] [--seconds N] [--seed S]
//
// `--peer PORT` and `--without-memory` are what the soak calls its children
// with.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <string_view>

#include "tests/endurance/soak.h"

int main(int argc, char** argv) try {
  tcpip_tests::SoakOptions options{.seed = std::random_device()(),
                                   .program = "/proc/self/exe"};
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--without-memory") {
      options.without_memory = options.quiet = true;
      options.program.clear();
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument(std::string(name));
    const double value = std::stod(argv[++i]);
    const auto whole = [&] { return std::stoull(argv[i]); };
    if (name == "--minutes") {
      options.time =
          std::chrono::milliseconds(static_cast<std::int64_t>(value * 60'000));
    } else if (name == "--seconds") {
      options.time =
          std::chrono::milliseconds(static_cast<std::int64_t>(value * 1'000));
    } else if (name == "--seed") {
      options.seed = whole();
    } else if (name == "--peer") {
      return tcpip_tests::run_peer(static_cast<int>(whole()));
    } else {
      throw std::invalid_argument(std::string(name));
    }
  }
  return tcpip_tests::run_soak(options);
} catch (const std::exception& e) {
  std::fprintf(stderr, "soak: %s\n", e.what());
  return 2;
}
