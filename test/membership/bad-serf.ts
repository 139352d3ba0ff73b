// A replacement for the Serf binary: it closes the first connections during the handshake, replies without members on the
// next ones, and then behaves. Writes the connection counts to `connections.json` beside its configuration.

import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { FakeSerf } from './fake-serf.ts'
import { record } from './fixtures.ts'

const CLOSED = 3
const WITHOUT_MEMBERS = 12

const path = process.argv.at(-1)?.replace('-config-file=', '') ?? ''
const { rpc_addr: address } = JSON.parse(readFileSync(path, 'utf8')) as { rpc_addr: string }
const fake = await FakeSerf.listen(
  ({ Command, Seq }, socket) => {
    writeFileSync(join(dirname(path), 'connections.json'), JSON.stringify(fake.count))
    const { opened } = fake.count
    if (Command === 'handshake' && opened <= CLOSED) {
      socket.destroy()
      return true
    }
    if (Command !== 'members' || opened > CLOSED + WITHOUT_MEMBERS) return false
    socket.write(Buffer.concat([encodeMsgpack({ Seq, Error: '' }), encodeMsgpack({})]))
    return true
  },
  { port: Number(address.split(':')[1]), members: [record(1)] }
)
