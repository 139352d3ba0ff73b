// A client of etcd: gRPC over one HTTP/2 connection to the leader, with hand-encoded messages to keep its own cost low. A
// claim is a transaction that puts the key unless it exists.
//   node etcd.ts URL

import { connect, type ClientHttp2Session } from 'node:http2'
import { serveLoads } from './driver.ts'

const VALUE = Buffer.alloc(200, 'v')
/** Compare: create_revision (target 1) of the key equals (result 0) 0, with the zero written out. */
const COMPARE_HEAD = Buffer.from([0x08, 0x00, 0x10, 0x01])
const COMPARE_TAIL = Buffer.from([0x28, 0x00])

const [url = ''] = process.argv.slice(2)
const session = connect(url)
const run = process.pid
let next = 0
await serveLoads(async () => {
  next += 1
  if (!(await claim(session, Buffer.from(`bench/${run}/${next}`)))) throw new Error('the key exists')
})
session.close()

/** @returns whether the key was free and is now ours */
async function claim(session: ClientHttp2Session, key: Buffer): Promise<boolean> {
  const compare = Buffer.concat([COMPARE_HEAD, field(3, key), COMPARE_TAIL])
  const put = field(2, Buffer.concat([field(1, key), field(2, VALUE)]))
  const answer = await call(session, '/etcdserverpb.KV/Txn', Buffer.concat([field(1, compare), field(2, put)]))
  return succeeded(answer)
}

/** A length-delimited field of protocol buffers. */
function field(number: number, value: Buffer): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(value.byteLength), value])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128)
  return Buffer.from([...bytes, rest])
}

/** TxnResponse.succeeded, field 2; skips the header before it. */
function succeeded(message: Buffer): boolean {
  const length = message[1] ?? 0
  const at = 2 + length
  return message[0] === 0x0a && message[at] === 0x10 && message[at + 1] === 1
}

/** Makes one unary call. @throws Error with gRPC's message */
function call(session: ClientHttp2Session, path: string, message: Buffer): Promise<Buffer> {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers'
  })
  const frame = Buffer.allocUnsafe(5 + message.byteLength)
  frame.writeUInt8(0, 0)
  frame.writeUInt32BE(message.byteLength, 1)
  message.copy(frame, 5)
  stream.end(frame)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let failure = ''
    stream.on('trailers', (trailers: Record<string, string | undefined>) => {
      if (trailers['grpc-status'] !== '0') failure = trailers['grpc-message'] ?? 'unknown'
    })
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      if (failure === '') resolve(Buffer.concat(chunks).subarray(5))
      else reject(new Error(failure))
    })
  })
}
