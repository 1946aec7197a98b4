#include "tcpip/error.h"

#include <gtest/gtest.h>
#include <netdb.h>

#include <cerrno>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

namespace tcpip {
namespace {

std::error_code os_code(int error_number) {
  return {error_number, std::generic_category()};
}

static_assert(std::is_base_of_v<std::system_error, Error>);
static_assert(std::is_base_of_v<ConnectionError, IncompleteReadError>);
static_assert(std::is_base_of_v<ConnectionError, ConnectionResetError>);
static_assert(std::is_base_of_v<ConnectionError, ConnectionRefusedError>);
static_assert(std::is_base_of_v<ConnectionError, ConnectionAbortedError>);
static_assert(std::is_base_of_v<ConnectionError, BrokenPipeError>);
// The connection lives on after these.
static_assert(!std::is_base_of_v<ConnectionError, TimeoutError>);
static_assert(!std::is_base_of_v<ConnectionError, LimitOverrunError>);
static_assert(!std::is_base_of_v<ConnectionError, DecodeError>);
static_assert(!std::is_base_of_v<ConnectionError, ResolveError>);
// An orderly stop must not be handled as a fault.
static_assert(!std::is_base_of_v<std::system_error, CancelledError>);

template <class T>
constexpr bool kCopiesWithoutThrowing =
    std::is_nothrow_copy_constructible_v<T>&&
        std::is_nothrow_copy_assignable_v<T>;
static_assert(kCopiesWithoutThrowing<Error>);
static_assert(kCopiesWithoutThrowing<ConnectionResetError>);
static_assert(kCopiesWithoutThrowing<IncompleteReadError>);
static_assert(kCopiesWithoutThrowing<TimeoutError>);
static_assert(kCopiesWithoutThrowing<LimitOverrunError>);
static_assert(kCopiesWithoutThrowing<DecodeError>);
static_assert(kCopiesWithoutThrowing<ResolveError>);
static_assert(kCopiesWithoutThrowing<CancelledError>);

TEST(Error, WhatSaysOperationPeerAndCause) {
  const Error error(os_code(ECONNRESET), "read_until", "127.0.0.1:4000");
  EXPECT_STREQ(error.what(),
               "read_until [127.0.0.1:4000]: Connection reset by peer");
  EXPECT_EQ(error.operation(), "read_until");
  EXPECT_EQ(error.peer(), "127.0.0.1:4000");
  EXPECT_EQ(error.code(), std::errc::connection_reset);
}

TEST(Error, WhatOmitsAnAbsentPeer) {
  EXPECT_STREQ(Error(os_code(EMFILE), "eventfd").what(),
               "eventfd: Too many open files");
}

TEST(Error, DetailStandsInPlaceOfTheCodesMessage) {
  const Error error(os_code(EPROTOTYPE), "adopt", {}, "not a stream socket");
  EXPECT_STREQ(error.what(), "adopt: not a stream socket");
  EXPECT_EQ(error.code().value(), EPROTOTYPE);
}

TEST(Error, IsCaughtAsTheStandardClass) {
  try {
    throw ConnectionResetError(os_code(ECONNRESET), "read", "peer");
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::connection_reset);
    EXPECT_STREQ(e.what(), "read [peer]: Connection reset by peer");
  }
}

TEST(Error, KeepsItsTextAcrossCopiesAndThreads) {
  std::exception_ptr caught;
  std::thread([&] {
    try {
      throw IncompleteReadError("read_exactly", "peer", "abc", 5);
    } catch (...) {
      caught = std::current_exception();
    }
  }).join();
  try {
    std::rethrow_exception(caught);
  } catch (const IncompleteReadError& e) {
    const IncompleteReadError copy = e;
    caught = nullptr;
    EXPECT_EQ(copy.partial(), "abc");
    EXPECT_STREQ(copy.what(),
                 "read_exactly [peer]: the connection was closed after 3 of 5 "
                 "bytes");
  }
}

TEST(Error, SurvivesBeingMovedFrom) {
  Error error(os_code(EIO), "read", "peer");
  const Error moved = std::move(error);
  EXPECT_STREQ(moved.what(), "read [peer]: Input/output error");
  EXPECT_STREQ(error.what(), moved.what());  // what() must never crash
}

TEST(IncompleteReadError, TellsWhatCameAndWhatWasExpected) {
  const IncompleteReadError error("read_exactly", "p", std::string("a\0b", 3),
                                  10);
  EXPECT_EQ(error.partial(), std::string("a\0b", 3));
  EXPECT_EQ(error.expected(), 10u);
  EXPECT_EQ(error.code(), Errc::kIncompleteRead);
  EXPECT_STREQ(error.what(),
               "read_exactly [p]: the connection was closed after 3 of 10 "
               "bytes");
}

TEST(IncompleteReadError, SaysWhetherAMessageHadBegun) {
  const auto what = [](std::string partial) {
    return std::string(
        IncompleteReadError("read_until", "p", std::move(partial), std::nullopt)
            .what());
  };
  EXPECT_EQ(what(""),
            "read_until [p]: the connection was closed before a message came");
  EXPECT_EQ(what("a"),
            "read_until [p]: the connection was closed in the middle of a "
            "message, after 1 byte");
}

TEST(IncompleteReadError, KnowsNoExpectedSizeOfALine) {
  const IncompleteReadError error("read_until", "p", "ab", std::nullopt);
  EXPECT_EQ(error.expected(), std::nullopt);
  EXPECT_STREQ(error.what(),
               "read_until [p]: the connection was closed in the middle of a "
               "message, after 2 bytes");
}

TEST(TimeoutError, TellsWhetherBytesAreQueued) {
  EXPECT_FALSE(TimeoutError("read").queued());
  const TimeoutError error("drain", "p", true);
  EXPECT_TRUE(error.queued());
  EXPECT_EQ(error.code(), std::errc::timed_out);
  EXPECT_STREQ(error.what(),
               "drain [p]: timed out; the unsent rest stays "
               "queued");
}

TEST(CancelledError, TellsWhetherBytesAreQueued) {
  EXPECT_FALSE(CancelledError("read").queued());
  EXPECT_STREQ(CancelledError("read", "p").what(), "read [p]: stop requested");
  EXPECT_TRUE(CancelledError("drain", "p", true).queued());
}

TEST(LimitOverrunError, TellsHowMuchCanBeDropped) {
  const LimitOverrunError error("read_until", "p", "too long", 42);
  EXPECT_EQ(error.consumed(), 42u);
  EXPECT_EQ(error.code(), Errc::kLimitOverrun);
  EXPECT_STREQ(error.what(), "read_until [p]: too long");
}

TEST(DecodeError, ShowsTheFirstWrongByteOnly) {
  const DecodeError error("read_str", "p", "ab\xff" + std::string(100'000, 'x'),
                          2);
  EXPECT_EQ(error.position(), 2u);
  EXPECT_EQ(error.data().size(), 100'003u);
  EXPECT_STREQ(error.what(),
               "read_str [p]: byte 0xff at position 2 of 100003 cannot be "
               "decoded");
}

TEST(DecodeError, MayPointBehindATruncatedMessage) {
  const DecodeError error("read_str", "p", "ab", 2);
  EXPECT_EQ(error.position(), 2u);
  EXPECT_NE(std::string(error.what()).find("position 2 of 2"),
            std::string::npos);
}

TEST(Errc, HasNamesAndMessages) {
  EXPECT_STREQ(tcpip_category().name(), "tcpip");
  for (const Errc code : {Errc::kIncompleteRead, Errc::kLimitOverrun,
                          Errc::kDecode, Errc::kSelfConnect}) {
    const std::error_code as_code = code;
    EXPECT_EQ(as_code.category(), tcpip_category());
    EXPECT_EQ(as_code.message().find("unknown"), std::string::npos);
  }
  EXPECT_EQ(tcpip_category().message(99), "unknown error 99");
  EXPECT_EQ(resolve_category().message(EAI_NONAME),
            "Name or service not known");
}

template <class Function>
std::exception_ptr thrown_by(Function function) {
  try {
    function();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

// True if exactly a T is thrown, neither a base of it nor a class derived.
template <class T, class Function>
bool throws_exactly(Function function, int error_number) {
  const std::exception_ptr thrown = thrown_by(function);
  if (!thrown) return false;
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& e) {
    return typeid(e) == typeid(T) && e.code().value() == error_number &&
           e.code().category() == std::generic_category() &&
           e.operation() == "read" && e.peer() == "p";
  }
}

template <class T>
bool connection_throws(int error_number) {
  return throws_exactly<T>(
      [&] { throw_connection_error(error_number, "read", "p"); }, error_number);
}

template <class T>
bool os_throws(int error_number) {
  return throws_exactly<T>([&] { throw_os_error(error_number, "read", "p"); },
                           error_number);
}

TEST(ThrowConnectionError, PicksTheClassByErrno) {
  EXPECT_TRUE(connection_throws<ConnectionResetError>(ECONNRESET));
  EXPECT_TRUE(connection_throws<ConnectionRefusedError>(ECONNREFUSED));
  EXPECT_TRUE(connection_throws<ConnectionAbortedError>(ECONNABORTED));
  EXPECT_TRUE(connection_throws<BrokenPipeError>(EPIPE));
}

TEST(ThrowConnectionError, TakesAPeerThatIsGoneForALostConnection) {
  for (const int error_number : {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN,
                                 ENETRESET, ENOTCONN, EHOSTDOWN}) {
    EXPECT_TRUE(connection_throws<ConnectionError>(error_number))
        << error_number;
  }
}

TEST(ThrowConnectionError, DoesNotBlameTheConnectionForAShortageOfOurs) {
  for (const int error_number : {ENOMEM, ENOBUFS, EMFILE, ENFILE}) {
    EXPECT_TRUE(connection_throws<Error>(error_number)) << error_number;
  }
}

TEST(ThrowOsError, PicksTheClassByErrno) {
  EXPECT_TRUE(os_throws<ConnectionRefusedError>(ECONNREFUSED));
  EXPECT_TRUE(os_throws<ConnectionResetError>(ECONNRESET));
  EXPECT_TRUE(os_throws<TimeoutError>(ETIMEDOUT));
  for (const int error_number :
       {EADDRINUSE, EADDRNOTAVAIL, EHOSTUNREACH, EMFILE, EACCES, EBADF}) {
    EXPECT_TRUE(os_throws<Error>(error_number)) << error_number;
  }
}

}  // namespace
}  // namespace tcpip
