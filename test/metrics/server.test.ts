import { existsSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import type { Check } from '#metrics/figures.ts'
import { Metrics } from '#metrics/metrics.ts'
import { startMetricsServer } from '#metrics/server.ts'
import { createLogger } from '#platform/log.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { figure, parseExposition } from './exposition.ts'
import { SOME } from './figures.ts'

const WELL: readonly Check[] = [
  { name: 'cluster', trouble: null, forReady: true },
  { name: 'leader', trouble: null, forReady: false }
]
const noIpv6 = existsSync('/proc/net/if_inet6') ? false : 'no IPv6'
const UNREADY = WELL.map(check => (check.name === 'cluster' ? { ...check, trouble: 'none yet' } : check))
const UNWELL = WELL.map(check => (check.name === 'leader' ? { ...check, trouble: 'unknown' } : check))

type Answer = { readonly status: number; readonly text: string; readonly headers: Record<string, unknown> }
type Asked = { readonly method?: string; readonly host?: string; readonly body?: string; readonly at?: string }

async function door(
  t: Test,
  checks: () => readonly Check[] = () => WELL,
  gather = () => SOME,
  listen = '127.0.0.1:0'
): Promise<{ port: number; ask: (path: string, asked?: Asked) => Promise<Answer> }> {
  const metrics = new Metrics(gather, new ManualClock().clock)
  const server = await startMetricsServer({
    listen,
    checks,
    metrics,
    logger: createLogger('silent')
  })
  t.teardown(() => server.close())
  return { port: server.port, ask: (path, asked) => ask(server.port, path, asked) }
}

function ask(
  port: number,
  path: string,
  { method = 'GET', host, body, at = '127.0.0.1' }: Asked = {}
): Promise<Answer> {
  const headers = host === undefined ? {} : { host }
  return new Promise((resolve, reject) => {
    const asked = request({ host: at, port, path, method, headers, agent: false }, answer => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (part: string) => (text += part))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text, headers: answer.headers }))
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

/** What the server sends in response to these bytes until it closes the connection. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.setEncoding('utf8')
    socket.on('data', (part: string) => (text += part))
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}

const ANSWERS: readonly [path: string, checks: readonly Check[], status: number, text: string | RegExp][] = [
  ['/livez', WELL, 200, 'ok\n'],
  ['/livez', UNREADY, 200, 'ok\n'],
  ['/readyz', WELL, 200, 'ok\n'],
  ['/readyz', UNREADY, 503, '[-] cluster: none yet\nnot ok\n'],
  ['/readyz', UNWELL, 200, 'ok\n'],
  ['/readyz?verbose', UNWELL, 200, '[+] cluster: ok\nok\n'],
  ['/healthz', WELL, 200, 'ok\n'],
  ['/healthz?verbose', WELL, 200, '[+] cluster: ok\n[+] leader: ok\nok\n'],
  ['/healthz', UNWELL, 503, '[-] leader: unknown\nnot ok\n'],
  ['/healthz?verbose=1', UNREADY, 503, '[-] cluster: none yet\n[+] leader: ok\nnot ok\n'],
  ['/metrics', UNREADY, 200, /^vxmesh_raft_term 11$/m],
  ['/metrics?name[]=x', WELL, 200, /^vxmesh_raft_term 11$/m],
  ['/', WELL, 404, /ERR_ROUTE_NOT_FOUND/],
  ['/v1/status', WELL, 404, /ERR_ROUTE_NOT_FOUND/],
  ['/metrics/', WELL, 404, /ERR_ROUTE_NOT_FOUND/],
  ['/%6detrics', WELL, 404, /ERR_ROUTE_NOT_FOUND/]
]

t.test('each path reflects the checks', async t => {
  for (const [path, checks, status, text] of ANSWERS) {
    const { ask } = await door(t, () => checks)
    const answer = await ask(path)
    t.equal(answer.status, status, path)
    t.match(answer.text, text, path)
  }
})

t.test('a scrape is in the text format, with its content type', async t => {
  const { ask } = await door(t)
  const { text, headers } = await ask('/metrics')
  t.match(headers, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', 'cache-control': 'no-store' })
  t.equal(figure(parseExposition(text), 'vxmesh_endpoints'), 10)
})

t.test('nothing but GET is served', async t => {
  const { ask } = await door(t)
  for (const path of ['/livez', '/readyz', '/healthz', '/metrics', '/']) {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD']) {
      const answer = await ask(path, { method })
      t.match([answer.status, answer.headers['allow']], [405, 'GET'], `${method} ${path}`)
    }
  }
  t.equal((await ask('/livez', { method: 'POST', body: 'x'.repeat(1_000_000) }).catch(hungUp)).status, 405)
})

t.test('a Host header that is neither the reached address nor localhost is refused', async t => {
  const { ask, port } = await door(t)
  for (const host of ['localhost', 'LOCALHOST:1', '127.0.0.1', `127.0.0.1:${port}`]) {
    t.equal((await ask('/metrics', { host })).status, 200, host)
  }
  for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.2', '127.0.0.1.evil.example', 'localhost.']) {
    const { status, text } = await ask('/metrics', { host })
    t.equal(status, 403, host)
    t.notMatch(text, /vxmesh_/)
  }
  t.match(await raw(port, 'GET /metrics HTTP/1.0\r\n\r\n'), /^HTTP\/1.1 403 /)
  t.match(await raw(port, 'GET /metrics HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n'), /^HTTP\/1.1 403 /)
  t.match(await raw(port, 'GET /metrics HTTP/1.1\r\n\r\n'), /^HTTP\/1.1 400 /)
})

t.test('an IPv6 address in brackets is served, and is no IPv4 one', { skip: noIpv6 }, async t => {
  const { ask, port } = await door(
    t,
    () => WELL,
    () => SOME,
    '[::]:0'
  )
  const at = '::1'
  for (const host of [undefined, 'localhost', '[::1]', `[::1]:${port}`])
    t.equal((await ask('/metrics', { at, ...(host === undefined ? {} : { host }) })).status, 200, `Host ${host}`)
  for (const host of ['::1', '[::2]', '[::1', '127.0.0.1', 'evil.example'])
    t.equal((await ask('/metrics', { at, host })).status, 403, host)
  await t.rejects(ask('/livez'), { code: 'ECONNREFUSED' })
})

t.test('headers over 8 KiB and non-HTTP bytes are refused, and the server keeps serving', async t => {
  const { ask, port } = await door(t)
  const long = `GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(9_000)}\r\n\r\n`
  t.match(await raw(port, long), /^HTTP\/1.1 431 /)
  t.match(await raw(port, '\0\x01\x02 nonsense\r\n\r\n'), /^HTTP\/1.1 400 /)
  t.equal((await ask('/livez')).status, 200)
})

t.test('connections beyond 64 are closed until others end', async t => {
  const { ask, port } = await door(t)
  const opened = await Promise.all(
    Array.from({ length: 64 }, async () => {
      const socket = connect(port, '127.0.0.1')
      await new Promise(resolve => socket.once('connect', resolve))
      return socket
    })
  )
  await t.rejects(ask('/livez'))
  for (const socket of opened) await new Promise(resolve => socket.once('close', resolve).destroy())
  const { status } = await retried(() => ask('/livez'))
  t.equal(status, 200)
})

t.test('an incomplete request times out', async t => {
  const { port } = await door(t)
  t.match(await raw(port, 'GET /livez HTTP/1.1\r\nhost: localh'), /^HTTP\/1.1 408 /)
})

t.test('a failure to gather figures is a 500 for that scrape only', async t => {
  let fails = true
  const { ask } = await door(t, undefined, () => {
    if (fails) throw new Error('not now')
    return SOME
  })
  t.match(await ask('/metrics'), { status: 500, text: 'not now [ERR_INTERNAL]\n' })
  t.equal((await ask('/livez')).status, 200)
  fails = false
  t.equal((await ask('/metrics')).status, 200)
})

t.test('an address that cannot be bound is ERR_CONFIG naming http.listen', async t => {
  const { port } = await door(t)
  for (const listen of [`127.0.0.1:${port}`, '203.0.113.1:7380']) {
    const started = startMetricsServer({
      listen,
      checks: () => WELL,
      metrics: new Metrics(() => SOME, new ManualClock().clock),
      logger: createLogger('silent')
    })
    await t.rejects(started, { code: 'ERR_CONFIG', field: 'http.listen', message: /^http\.listen: .*cannot be bound/ })
  }
})

/** The server may close the connection before the caller has sent everything; then the answer is lost. */
function hungUp(err: NodeJS.ErrnoException): Answer {
  return { status: ['EPIPE', 'ECONNRESET'].includes(err.code ?? '') ? 405 : 0, text: '', headers: {} }
}

async function retried<T>(work: () => Promise<T>, tries = 100): Promise<T> {
  try {
    return await work()
  } catch (err) {
    if (tries === 0) throw err
    await new Promise(resolve => setTimeout(resolve, 20))
    return retried(work, tries - 1)
  }
}
