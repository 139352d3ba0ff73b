// A client of containerd's CRI (runtime.v1), like a kubelet: gRPC over its UNIX socket, with the few messages that pods
// need encoded by hand (k8s.io/cri-api, runtime/v1/api.proto).

import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { connect } from 'node:net'

/** Values by field number, in wire order: numbers, or bytes for length-delimited fields. */
type Message = ReadonlyMap<number, readonly (number | Buffer)[]>

export type PodFacts = {
  readonly name: string
  readonly namespace: string
  readonly annotations?: Readonly<Record<string, string>>
}

export type ExecResult = { readonly exitCode: number; readonly stdout: string }

export class CriClient {
  readonly #session: ClientHttp2Session

  constructor(socketPath: string) {
    this.#session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) })
    // The failing call reports it.
    this.#session.on('error', () => undefined)
  }

  /** @returns the sandbox's id. @throws Error with the runtime's message */
  async runPod(pod: PodFacts): Promise<string> {
    return text(await this.#call('RunPodSandbox', field(1, sandboxConfig(pod))), 1)
  }

  /** The pod's address as the runtime reports it. */
  async podAddress(id: string): Promise<string> {
    const status = nested(await this.#call('PodSandboxStatus', field(1, id)), 1)
    return text(nested(status, 5), 1)
  }

  /** A container in the pod that runs `command`. */
  async startContainer(
    podId: string,
    pod: PodFacts,
    p: { image: string; command: readonly string[] }
  ): Promise<string> {
    const config = Buffer.concat([
      field(1, field(1, 'main')),
      field(2, field(1, p.image)),
      ...p.command.map(word => field(3, word))
    ])
    const request = Buffer.concat([field(1, podId), field(2, config), field(3, sandboxConfig(pod))])
    const id = text(await this.#call('CreateContainer', request), 1)
    await this.#call('StartContainer', field(1, id))
    return id
  }

  async exec(containerId: string, ...command: readonly string[]): Promise<ExecResult> {
    const request = Buffer.concat([field(1, containerId), ...command.map(word => field(2, word)), number(3, 30)])
    const answer = await this.#call('ExecSync', request)
    const [exitCode = 0] = answer.get(3) ?? []
    return { exitCode: Number(exitCode), stdout: text(answer, 1) }
  }

  async stopPod(id: string): Promise<void> {
    await this.#call('StopPodSandbox', field(1, id))
  }

  async removePod(id: string): Promise<void> {
    await this.#call('RemovePodSandbox', field(1, id))
  }

  async listPods(): Promise<string[]> {
    const answer = await this.#call('ListPodSandbox', Buffer.alloc(0))
    return (answer.get(1) ?? []).map(pod => text(decode(pod as Buffer), 1))
  }

  /** Whether the runtime answers and its network is ready. */
  async isReady(): Promise<boolean> {
    const conditions = nested(await this.#call('Status', Buffer.alloc(0)), 1).get(1) ?? []
    return conditions.length > 0 && conditions.every(one => decode(one as Buffer).get(2)?.[0] === 1)
  }

  close(): void {
    this.#session.destroy()
  }

  #call(method: string, message: Buffer): Promise<Message> {
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers'
    })
    const frame = Buffer.alloc(5)
    frame.writeUInt32BE(message.byteLength, 1)
    stream.end(Buffer.concat([frame, message]))
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      let failure: string | null = null
      const verdict = (headers: Record<string, unknown>): void => {
        const { 'grpc-status': status, 'grpc-message': words } = headers
        if (status !== undefined && status !== '0') failure = decodeURIComponent(String(words))
      }
      stream.on('response', verdict)
      stream.on('trailers', verdict)
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('error', reject)
      stream.on('close', () => {
        if (failure === null) resolve(decode(Buffer.concat(chunks).subarray(5)))
        else reject(new Error(`${method}: ${failure}`))
      })
    })
  }
}

function sandboxConfig({ name, namespace, annotations = {} }: PodFacts): Buffer {
  const metadata = Buffer.concat([field(1, name), field(2, `uid-${name}`), field(3, namespace)])
  return Buffer.concat([
    field(1, metadata),
    field(2, name),
    ...Object.entries(annotations).map(([key, value]) => field(7, Buffer.concat([field(1, key), field(2, value)])))
  ])
}

function field(id: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([varint(id * 8 + 2), varint(bytes.byteLength), bytes])
}

function number(id: number, value: number): Buffer {
  return Buffer.concat([varint(id * 8), varint(value)])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  return Buffer.from([...bytes, rest])
}

function decode(bytes: Buffer): Message {
  const fields = new Map<number, (number | Buffer)[]>()
  let at = 0
  const next = (): number => {
    let [value, scale] = [0, 1]
    for (;;) {
      const byte = bytes[at++] ?? 0
      value += (byte & 127) * scale
      if (byte < 128) return value
      scale *= 128
    }
  }
  while (at < bytes.byteLength) {
    const tag = next()
    const length = next()
    const value = tag % 8 === 2 ? bytes.subarray(at, (at += length)) : length
    const id = Math.floor(tag / 8)
    fields.set(id, [...(fields.get(id) ?? []), value])
  }
  return fields
}

function text(message: Message, id: number): string {
  return message.get(id)?.[0]?.toString() ?? ''
}

function nested(message: Message, id: number): Message {
  const value = message.get(id)?.[0]
  return decode(value instanceof Buffer ? value : Buffer.alloc(0))
}
