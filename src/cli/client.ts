// The API's client: JSON over the agent's UNIX socket. Imports little, so that commands start fast.

import type { IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { isErrorCode, VxmeshError } from '#model/errors.ts'
import type { PageView } from '#model/views.ts'
import { Agent, request } from '#platform/http.ts'

/** Longer than any timeout of the agent. */
const TIMEOUT_MS = 95_000

/** Rows of a page: more would hold the agent longer, fewer need more calls. */
const PAGE = 500

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

export class ApiClient {
  readonly #socketPath: string
  readonly #timeoutMs: number
  /** Keeps the connection for the next call; an idle one does not keep the process alive. */
  readonly #connections = new Agent({ keepAlive: true })

  /** @param timeoutMs how long a call may be idle */
  constructor(socketPath: string, timeoutMs = TIMEOUT_MS) {
    this.#socketPath = socketPath
    this.#timeoutMs = timeoutMs
  }

  /** @throws ERR_AGENT_UNREACHABLE, ERR_TIMEOUT, or the agent's own error */
  async call(method: Method, path: string, body?: unknown): Promise<unknown> {
    const { status, bytes } = await this.#exchange(method, path, body)
    if (status < 300) return parse(bytes.toString())
    throw errorOf(status, bytes.toString())
  }

  /** The pages of a list, each read when it is asked for. @throws as `call` does */
  async *pages<Row>(path: string): AsyncGenerator<readonly Row[]> {
    const more = path.includes('?') ? '&' : '?'
    let token = ''
    do {
      const query = token === '' ? `limit=${PAGE}` : `limit=${PAGE}&continue=${encodeURIComponent(token)}`
      const page = (await this.call('GET', `${path}${more}${query}`)) as PageView<Row>
      yield page.items
      token = page.continue ?? ''
    } while (token !== '')
  }

  /** The rows of a list: all, or so many that no further page is needed. @throws as `call` does */
  async list<Row>(path: string, enough = Infinity): Promise<Row[]> {
    const rows: Row[] = []
    for await (const page of this.pages<Row>(path)) {
      for (const row of page) rows.push(row)
      if (rows.length >= enough) break
    }
    return rows
  }

  /** The whole body of an answer that is not JSON. @throws as `call` does */
  async bytes(path: string): Promise<Buffer> {
    const { status, bytes } = await this.#exchange('GET', path, undefined)
    if (status < 300) return bytes
    throw errorOf(status, bytes.toString())
  }

  /** A stream of lines until either side closes it, without the empty heartbeat lines. @throws as `call` does */
  async *lines(path: string, signal?: AbortSignal): AsyncGenerator<string> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const ending = signal === undefined ? {} : { signal }
      const req = request({ socketPath: this.#socketPath, method: 'GET', path, ...ending }, resolve)
      req.on('error', err => reject(this.#unreachable(err)))
      req.end()
    })
    if (response.statusCode !== 200) throw errorOf(response.statusCode ?? 500, await text(response))
    try {
      for await (const line of createInterface({ input: response })) if (line !== '') yield line
    } catch (err) {
      throw this.#unreachable(err instanceof Error ? err : new Error(String(err)))
    } finally {
      // The caller may have stopped reading: later errors of the connection do not matter.
      response.on('error', () => undefined).destroy()
    }
  }

  #exchange(method: Method, path: string, body: unknown): Promise<{ status: number; bytes: Buffer }> {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const headers = payload === undefined ? {} : { 'content-type': 'application/json' }
      const to = { socketPath: this.#socketPath, agent: this.#connections, timeout: this.#timeoutMs }
      const req = request({ ...to, method, path, headers }, res => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('end', () => resolve({ status: res.statusCode ?? 500, bytes: Buffer.concat(chunks) }))
        res.on('error', err => reject(this.#unreachable(err)))
      })
      req.on('timeout', () => {
        req.destroy(new VxmeshError('ERR_TIMEOUT', 'the agent did not answer in time'))
      })
      req.on('error', err => reject(err instanceof VxmeshError ? err : this.#unreachable(err)))
      req.end(payload)
    })
  }

  #unreachable(cause: Error): VxmeshError {
    const message = `no agent answers on ${this.#socketPath} (${cause.message}); is the agent running?`
    return new VxmeshError('ERR_AGENT_UNREACHABLE', message, { cause })
  }
}

function errorOf(status: number, text: string): VxmeshError {
  const { error } = (parse(text) ?? {}) as { error?: { code?: unknown; message?: unknown; field?: unknown } }
  const code = typeof error?.code === 'string' && isErrorCode(error.code) ? error.code : 'ERR_INTERNAL'
  const message = typeof error?.message === 'string' ? error.message : `the agent answered with status ${status}`
  return new VxmeshError(code, message, typeof error?.field === 'string' ? { field: error.field } : {})
}

function parse(text: string): unknown {
  try {
    return text === '' ? null : (JSON.parse(text) as unknown)
  } catch (err) {
    throw new VxmeshError('ERR_INTERNAL', 'the agent’s answer is not JSON', { cause: err })
  }
}
