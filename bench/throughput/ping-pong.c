// One byte there and one back over one TCP connection, one request at a time. Both ends run on the same processor: where the
// scheduler puts them otherwise, and so what it costs to wake them, differs from run to run by more than what is measured.
//   ping-pong serve ADDRESS PORT                 answers one client
//   ping-pong ask ADDRESS PORT WARM_UP_MS MS     asks it, and prints rate and latency of the second period as JSON

#define _GNU_SOURCE
#include <err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Neither end outlives a bench that is killed.
#define MAX_SECONDS 60
// More than any kernel answers while a bench lasts.
#define MAX_REQUESTS (1 << 22)

static uint32_t latency_ns[MAX_REQUESTS];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stay_on_one_processor(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) err(1, "sched_setaffinity");
}

static void send_at_once(int fd) {
  int yes = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0) err(1, "TCP_NODELAY");
}

// Of either family. Never freed: there is one in a run.
static const struct addrinfo *address_of(const char *text, const char *port) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
  if (getaddrinfo(text, port, &hints, &found) != 0) errx(1, "%s is no address", text);
  return found;
}

static int open_socket(const struct addrinfo *address) {
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  return fd;
}

static void serve(const struct addrinfo *address) {
  int listener = open_socket(address), yes = 1;
  if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0) err(1, "SO_REUSEADDR");
  if (bind(listener, address->ai_addr, address->ai_addrlen) != 0) err(1, "bind");
  if (listen(listener, 1) != 0) err(1, "listen");
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) err(1, "accept");
  send_at_once(fd);
  char byte;
  while (recv(fd, &byte, 1, 0) == 1)
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) break;
}

static void ask_once(int fd) {
  char byte = 'x';
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) err(1, "send");
  if (recv(fd, &byte, 1, 0) != 1) err(1, "recv");
}

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// The latency that a share of the requests, in percent, does not exceed: nearest rank.
static double quantile_us(uint64_t count, unsigned percent) {
  uint64_t rank = (count * percent + 99) / 100;
  return latency_ns[rank == 0 ? 0 : rank - 1] / 1e3;
}

static void ask(int fd, uint64_t warm_up_ns, uint64_t measured_ns) {
  uint64_t before = now_ns();
  uint64_t since = before + warm_up_ns;
  while (before < since) {
    ask_once(fd);
    before = now_ns();
  }
  uint64_t count = 0, start = before;
  while (before - start < measured_ns && count < MAX_REQUESTS) {
    ask_once(fd);
    uint64_t after = now_ns();
    uint64_t took = after - before;
    latency_ns[count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    before = after;
  }
  qsort(latency_ns, count, sizeof latency_ns[0], compare);
  double seconds = (double)(before - start) / 1e9;
  printf("{\"requestsPerSecond\":%.1f,\"p50Us\":%.2f,\"p99Us\":%.2f}\n", (double)count / seconds,
         quantile_us(count, 50), quantile_us(count, 99));
}

int main(int argc, char **argv) {
  alarm(MAX_SECONDS);
  stay_on_one_processor();
  if (argc == 4 && strcmp(argv[1], "serve") == 0) {
    serve(address_of(argv[2], argv[3]));
    return 0;
  }
  if (argc != 6 || strcmp(argv[1], "ask") != 0)
    errx(2, "usage: ping-pong serve ADDRESS PORT | ask ADDRESS PORT WARM_UP_MS MS");
  const struct addrinfo *address = address_of(argv[2], argv[3]);
  int fd = open_socket(address);
  send_at_once(fd);
  if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) err(1, "connect");
  ask(fd, strtoull(argv[4], NULL, 10) * 1000000u, strtoull(argv[5], NULL, 10) * 1000000u);
  return 0;
}
