// What the source that porting.py makes of PORTING.md includes: the public
// headers, and what the words in the document's calls are. The source is
// compiled and never run.
//
// Threads: nothing in it runs.
#ifndef TESTS_DOCUMENTS_PORTING_PRELUDE_H_
#define TESTS_DOCUMENTS_PORTING_PRELUDE_H_

// The compiler looks for a member, whatever its kind and however often it is
// overloaded, in a class that derives from the one it is asked about. So no
// class may be final here.
#define final

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/base_client_or_server.h"
#include "tcpip/byte_order.h"
#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/frame_dispatcher.h"
#include "tcpip/inherited_descriptors.h"
#include "tcpip/json.h"
#include "tcpip/listener.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/options.h"
#include "tcpip/pending_replies.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/send_queue.h"
#include "tcpip/realtime.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/one_client_server_test_case.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/thread_hook.h"
#include "tcpip/transactor.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"
#include "tcpip/wire_type.h"

namespace porting {

using namespace tcpip;          // NOLINT: the document does not say tcpip::
using namespace tcpip_testing;  // NOLINT

template <class... T>
struct Types {};
template <class T, class Other>
struct Both : T, Other {};

// Where a function that the document's prose mentions may be a member.
using AllClasses =
    Types<BaseClientOrServer, Client, OneClientServer, OneClientReadLoopServer,
          Connection, StreamReader, StreamWriter, CallbackQueue, Listener,
          ConnectionEvent, Error, Wait,
          BaseOneClientServerTestCase<OneClientServer>,
          TestOneClientReadLoopServer>;

using AllOptions =
    Types<ClientOptions, ServerOptions, HeartbeatOptions, OpenConnectionOptions,
          ConnectOptions, ListenOptions, SocketOptions, JsonOptions>;

// The arguments in the document's calls. (Whether read_into() and write_from()
// take a type is not looked at: no call is evaluated.)
namespace argument {

struct AnyOptions {
  template <class T>
  requires std::is_aggregate_v<T>
  operator T() const;
};
struct Descriptor {
  operator UniqueFd() const;  // UniqueFd itself can only be moved
};

extern const std::string a;
extern const std::string b;
extern const bool connected;
extern std::string data;
extern const std::string encoding;
extern const Descriptor fd;
extern const OneClientReadLoopServer::ReadHandler handler;
extern const std::string host;
extern const std::size_t limit;
extern const std::size_t n;
extern const AnyOptions options;
extern const std::span<const std::string_view> parts;
extern const int port;
extern StreamReader reader;
extern const std::string separator;
extern OneClientServer server;
extern const std::shared_ptr<Socket> socket;
extern const std::string terminator;
extern const std::string text;
extern const Wait wait;
extern const bool wait_connected;
extern StreamWriter writer;

}  // namespace argument
}  // namespace porting

#endif  // TESTS_DOCUMENTS_PORTING_PRELUDE_H_
