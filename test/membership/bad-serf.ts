// Run in place of Serf: the first connections end in the handshake, the next get answers without members, then it is
// sound. Writes into `connections.json` beside its configuration how many connections there were at one time.

import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { FakeSerf } from './fake-serf.ts'
import { record } from './fixtures.ts'

const ENDED = 3
const WITHOUT_MEMBERS = 12

const path = process.argv.at(-1)?.replace('-config-file=', '') ?? ''
const { rpc_addr: address } = JSON.parse(readFileSync(path, 'utf8')) as { rpc_addr: string }
const fake = await FakeSerf.listen(
  ({ Command, Seq }, socket) => {
    writeFileSync(join(dirname(path), 'connections.json'), JSON.stringify(fake.count))
    const { opened } = fake.count
    if (Command === 'handshake' && opened <= ENDED) {
      socket.destroy()
      return true
    }
    if (Command !== 'members' || opened > ENDED + WITHOUT_MEMBERS) return false
    socket.write(Buffer.concat([encodeMsgpack({ Seq, Error: '' }), encodeMsgpack({})]))
    return true
  },
  { port: Number(address.split(':')[1]), members: [record(1)] }
)
