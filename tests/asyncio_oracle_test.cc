// The same random scripts for CPython's StreamReader and for ours: results,
// errors with their numbers, and what is left in the buffer must agree.
//
// TCPIP_ORACLE_SCRIPTS sets how many scripts, TCPIP_ORACLE_SEED where they
// begin; a million or so belongs on a machine with time to spare.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/open_connection.h"
#include "tests/support/loopback.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

std::string hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  }
  return result;
}

std::string bytes_of(const std::string& hex) {
  std::string result;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    result += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return result;
}

// Runs one read; says what came of it in the oracle's words.
std::string run(tcpip::StreamReader& reader, std::istringstream& step) {
  std::string what;
  step >> what;
  try {
    std::optional<std::string> data;
    if (what == "at_eof") return reader.at_eof() ? "true" : "false";
    if (what == "read" || what == "exactly") {
      std::size_t n = 0;
      step >> n;
      data = what == "read" ? reader.try_read(n) : reader.try_read_exactly(n);
    } else if (what == "line") {
      data = reader.try_read_line();
    } else {
      std::vector<std::string> separators;
      for (std::string each; step >> each;) {
        separators.push_back(bytes_of(each));
      }
      switch (separators.size()) {
        case 1:
          data = reader.try_read_until(separators[0]);
          break;
        case 2:
          data = reader.try_read_until({separators[0], separators[1]});
          break;
        default:
          data = reader.try_read_until(
              {separators[0], separators[1], separators[2]});
      }
    }
    return data ? "data " + hex(*data) : "pending";
  } catch (const tcpip::IncompleteReadError& e) {
    return "incomplete " + hex(e.partial()) + " " +
           (e.expected() ? std::to_string(*e.expected()) : "none");
  } catch (const tcpip::LimitOverrunError& e) {
    // asyncio's readline() raises a ValueError, which has no number.
    return what == "line" ? "overrun"
                          : "overrun " + std::to_string(e.consumed());
  }
}

// Compares what the oracle says of `count` scripts; returns how many reads.
int compare(int seed, int count) {
  Subprocess oracle({"python3", find_file("tests/asyncio_oracle.py"),
                     std::to_string(seed), std::to_string(count)});
  std::istringstream output(oracle.read_all());
  EXPECT_EQ(oracle.wait(), 0);

  FdPair pair;
  tcpip::Connection ours;
  std::string history;
  std::string got;
  int compared = 0;
  for (std::string line; std::getline(output, line);) {
    history += line + "\n";
    std::istringstream step(line);
    if (line.starts_with("new ")) {
      std::size_t limit = 0;
      step >> got >> limit;
      pair = fd_pair(Transport::kUnix);
      ours = tcpip::open_connection(std::move(pair.ours), limit);
      history = line + "\n";
    } else if (line.starts_with("feed ")) {
      send_all(pair.peer, bytes_of(line.substr(5)));
    } else if (line == "eof") {
      pair.peer.reset();
    } else if (line.starts_with("= ")) {
      EXPECT_EQ(got, line.substr(2)) << history;
      if (testing::Test::HasFailure()) return compared;
      ++compared;
    } else {
      got = run(ours.reader, step);
    }
  }
  return compared;
}

int from_environment(const char* name, int otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? std::atoi(value) : otherwise;
}

TEST(AsyncioOracle, ReadersAgreeOnRandomScripts) {
  const int scripts = from_environment("TCPIP_ORACLE_SCRIPTS", 2000);
  const int seed = from_environment("TCPIP_ORACLE_SEED", 1);
  constexpr int kBatch = 500;
  int compared = 0;
  for (int done = 0; done < scripts && !HasFailure(); done += kBatch) {
    compared += compare(seed + done, kBatch);
  }
  EXPECT_GT(compared, scripts) << "the oracle said next to nothing";
}

}  // namespace
}  // namespace tcpip_tests
