// Runs a fuzzer as an ordinary test, with any compiler: over its seeds, which
// are in tests/fuzz/corpus, and over pseudo-random inputs. Arguments:
//
//   --corpus=DIRECTORY   where the seeds are; or one file, to repeat a finding
//   --seed=N             of the pseudo-random inputs; 1 if it is absent
//   --inputs=N           how many of these at most
//
// The seed is printed, and a finding with its input.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/wait.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/servers.h"

namespace tcpip_fuzz {
namespace {

using Strings = std::vector<std::string>;

// Inputs are run until this has passed, or all have run.
constexpr std::chrono::seconds kTime{3};

std::optional<std::string> flag(std::string_view name) {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string prefix = "--" + std::string(name) + "=";
  for (std::string argument; std::getline(file, argument, '\0');) {
    if (argument.starts_with(prefix)) return argument.substr(prefix.size());
  }
  return std::nullopt;
}

std::uint64_t number(std::string_view name, std::uint64_t otherwise) {
  const auto text = flag(name);
  return text ? std::stoull(*text) : otherwise;
}

struct Seed {
  std::string name;
  std::string bytes;
};

Seed seed_from(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {path.filename().string(), {std::istreambuf_iterator<char>(file), {}}};
}

std::vector<Seed> seeds() {
  const std::filesystem::path path = flag("corpus").value_or("");
  if (std::filesystem::is_regular_file(path)) return {seed_from(path)};
  std::vector<Seed> result;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    result.push_back(seed_from(entry.path()));
  }
  std::sort(result.begin(), result.end(),
            [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return result;
}

// False after a finding, which it reports.
bool run(const std::string& name, std::string_view input) {
  try {
    fuzz_one(input);
    return true;
  } catch (const Finding& finding) {
    ADD_FAILURE() << name << ": " << finding.what;
  } catch (const std::exception& e) {
    ADD_FAILURE() << name << ": an exception: " << e.what();
  }
  const std::string file = testing::TempDir() + "finding";
  std::ofstream(file, std::ios::binary) << input;
  std::printf("The input is in %s:\n", file.c_str());
  for (const char c : input) {
    std::printf("%02x", static_cast<unsigned char>(c));
  }
  std::printf("\n");
  return false;
}

// Bytes without any order, or one or two seeds that were changed in a few
// places.
class Generator {
 public:
  Generator(std::uint64_t seed, const std::vector<Seed>& seeds)
      : engine_(seed), seeds_(seeds) {}

  std::string next() {
    if (seeds_.empty() || below(4) == 0) return random_bytes(below(300));
    std::string bytes = some_seed();
    if (below(3) == 0) {
      const std::string other = some_seed();
      bytes = bytes.substr(0, below(bytes.size() + 1)) +
              other.substr(below(other.size() + 1));
    }
    for (std::size_t changes = 1 + below(6); changes > 0; --changes) {
      change(bytes);
    }
    return bytes.substr(0, 4096);
  }

 private:
  std::size_t below(std::size_t end) { return engine_() % end; }
  const std::string& some_seed() { return seeds_[below(seeds_.size())].bytes; }

  std::string random_bytes(std::size_t size) {
    constexpr std::string_view kUsual = "\r\nab\"[]{},:0123456789\\ \0x";
    const bool usual = below(2) == 0;
    std::string result;
    for (std::size_t i = 0; i < size; ++i) {
      result += usual && below(3) > 0 ? kUsual[below(kUsual.size())]
                                      : static_cast<char>(below(256));
    }
    return result;
  }

  void change(std::string& bytes) {
    const std::size_t at = below(bytes.size() + 1);
    switch (below(5)) {
      case 0:
        bytes.insert(at, random_bytes(1 + below(8)));
        break;
      case 1:
        bytes.erase(at, 1 + below(8));
        break;
      case 2:  // the same once more
        bytes.insert(at, bytes.substr(at, 1 + below(40)));
        break;
      case 3:
        if (at < bytes.size()) bytes[at] = static_cast<char>(below(256));
        break;
      default:
        if (at < bytes.size()) {
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        }
    }
  }

  std::mt19937_64 engine_;
  const std::vector<Seed>& seeds_;
};

class FuzzTest : public testing::Test {
 protected:
  void TearDown() override { close_servers(); }
};

TEST_F(FuzzTest, SeedsAreRight) {
  const std::vector<Seed> all = seeds();
  EXPECT_FALSE(all.empty());
  for (const Seed& each : all) {
    if (!run(each.name, each.bytes)) return;
  }
}

TEST_F(FuzzTest, PseudoRandomInputsAreRight) {
  const std::uint64_t seed = number("seed", 1);
  const std::uint64_t most = number("inputs", 20'000);
  const std::vector<Seed> all = seeds();
  Generator generator(seed, all);
  const auto end = tcpip::Deadline::after(kTime);
  std::uint64_t count = 0;
  for (; count < most && !end.has_passed(); ++count) {
    if (!run("input " + std::to_string(count) +
                 " of --seed=" + std::to_string(seed),
             generator.next())) {
      return;
    }
  }
  std::printf("%llu inputs, --seed=%llu\n",
              static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(seed));
}

}  // namespace
}  // namespace tcpip_fuzz
