// All public headers but json.h, which needs nlohmann-json, and those of the
// testing kit, which need GoogleTest.
//
// Threads: as each of them says.
#ifndef TCPIP_TCPIP_H_
#define TCPIP_TCPIP_H_

#include "tcpip/version.h"

#include "tcpip/address.h"
#include "tcpip/base_client_or_server.h"
#include "tcpip/byte_order.h"
#include "tcpip/callback_queue.h"
#include "tcpip/callback_thread.h"
#include "tcpip/client.h"
#include "tcpip/connect.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/frame_dispatcher.h"
#include "tcpip/inherited_descriptors.h"
#include "tcpip/io_result.h"
#include "tcpip/listener.h"
#include "tcpip/log.h"
#include "tcpip/network.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/open_metrics.h"
#include "tcpip/options.h"
#include "tcpip/pending_replies.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/process_mark.h"
#include "tcpip/read_loop_client.h"
#include "tcpip/read_writer.h"
#include "tcpip/realtime.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/send_queue.h"
#include "tcpip/send_result.h"
#include "tcpip/socket.h"
#include "tcpip/stats.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/tap.h"
#include "tcpip/thread_hook.h"
#include "tcpip/transactor.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"
#include "tcpip/wire_type.h"

#endif  // TCPIP_TCPIP_H_
