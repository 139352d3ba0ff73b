// The HTTP server of `http.listen`, for probes and scrapes: /livez, /readyz, /healthz and /metrics. Read-only. The Host
// header is checked, so that a web page cannot read it by DNS rebinding.

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { asVxmeshError, ERROR_CODES, VxmeshError } from '#model/errors.ts'
import { createServer } from '#platform/http.ts'
import type { Logger } from '#platform/log.ts'
import type { Check } from './figures.ts'

const MAX_HEADER_BYTES = 8 * 1024
const MAX_CONNECTIONS = 64
/** For the headers of a request, for a whole request, and between requests. */
const TIMEOUT_MS = 5_000
const TEXT = 'text/plain; charset=utf-8'

export type MetricsServerOptions = {
  /** ADDRESS:PORT */
  readonly listen: string
  readonly checks: () => readonly Check[]
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
  readonly logger: Logger
}

type Answer = { readonly status: number; readonly body: string; readonly type?: string }

/** Listens until closed. @throws ERR_CONFIG naming http.listen */
export async function startMetricsServer(
  options: MetricsServerOptions
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: TIMEOUT_MS,
      requestTimeout: TIMEOUT_MS,
      keepAliveTimeout: TIMEOUT_MS,
      connectionsCheckingInterval: 1_000
    },
    (request, response) => void serve(options, request, response)
  )
  server.maxConnections = MAX_CONNECTIONS
  await listen(server, options.listen)
  server.on('error', (err: unknown) => options.logger.warn({ err }, 'http.listen'))
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}

async function serve(options: MetricsServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  let answered: Answer
  try {
    answered = await answer(options, request)
  } catch (err) {
    options.logger.error({ err }, 'scrape failed')
    answered = refusal(asVxmeshError(err))
  }
  const { status, body, type = TEXT } = answered
  const headers = { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  response.writeHead(status, status === 405 ? { ...headers, allow: 'GET' } : headers)
  response.end(body)
  // Does not wait for a request body, which no route takes.
  if (!request.complete) request.destroy()
}

async function answer({ checks, metrics }: MetricsServerOptions, request: IncomingMessage): Promise<Answer> {
  const { method, url = '/', headers, socket } = request
  if (!isAllowedHost(headers.host, socket.localAddress)) {
    return { status: 403, body: 'use the address of http.listen, or localhost\n' }
  }
  if (method !== 'GET') return { status: 405, body: 'GET only\n' }
  const [path = '', query = ''] = url.split('?', 2)
  const verbose = new URLSearchParams(query).has('verbose')
  switch (path) {
    case '/livez':
      return { status: 200, body: 'ok\n' }
    case '/readyz':
      return verdict(
        checks().filter(check => check.forReady),
        verbose
      )
    case '/healthz':
      return verdict(checks(), verbose)
    case '/metrics':
      return { status: 200, body: await metrics.text(), type: metrics.contentType }
    default:
      return refusal(new VxmeshError('ERR_ROUTE_NOT_FOUND', 'the paths are /livez, /readyz, /healthz and /metrics'))
  }
}

/** Allows the address that the connection has reached, and localhost. The port may be forwarded and is ignored. */
function isAllowedHost(host: string | undefined, reached: string | undefined): boolean {
  const name = host?.replace(/:\d{1,5}$/, '').toLowerCase()
  const inBrackets = name?.startsWith('[') === true && name.endsWith(']') ? name.slice(1, -1) : null
  return name !== undefined && (name === 'localhost' || (inBrackets ?? name) === reached)
}

/** One line per failed check; with `verbose`, also per passed check. */
function verdict(checks: readonly Check[], verbose: boolean): Answer {
  const passed = checks.every(check => check.trouble === null)
  const lines = checks
    .filter(check => verbose || check.trouble !== null)
    .map(({ name, trouble }) => (trouble === null ? `[+] ${name}: ok` : `[-] ${name}: ${trouble}`))
  return { status: passed ? 200 : 503, body: [...lines, passed ? 'ok' : 'not ok', ''].join('\n') }
}

function refusal(err: VxmeshError): Answer {
  return { status: ERROR_CODES[err.code].http, body: `${err.message} [${err.code}]\n` }
}

async function listen(server: Server, address: string): Promise<void> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? []
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: Error) => {
      const message = `http.listen: ${address} cannot be bound: ${cause.message}`
      reject(new VxmeshError('ERR_CONFIG', message, { field: 'http.listen', cause }))
    })
    // Otherwise `[::]` would be the host's IPv4 addresses, too.
    server.listen({ host, port: Number(port), ipv6Only: true }, resolve)
  })
  server.removeAllListeners('error')
}
