import { createSocket } from 'node:dgram'
import { closeSync } from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import { parseIp } from '#model/ip.ts'
import { openBound } from '#platform/bound-socket.ts'
import { withScratchNetns } from '#platform/netns.ts'
import { cannotRun } from '../lab/requirements.ts'

const skip = cannotRun()

t.test('a socket is bound in the other namespace, also to an address that is not there yet', { skip }, async t => {
  for (const text of ['192.0.2.1', 'fd00:1::1']) {
    const address = parseIp(text)
    await withScratchNetns(async netns => {
      const udp = createSocket(text.includes(':') ? 'udp6' : 'udp4')
      udp.bind({ fd: openBound(netns, { protocol: 'udp', address, port: 53 }), exclusive: true })
      t.match(udp.address(), { address: text, port: 53 })
      const tcp = createServer()
      tcp.listen({ fd: openBound(netns, { protocol: 'tcp', address, port: 53 }), exclusive: true })
      await once(tcp, 'listening')
      t.match(tcp.address(), { address: text, port: 53 })
      await withScratchNetns(other => {
        closeSync(openBound(other, { protocol: 'udp', address, port: 53 }))
        t.pass('the port is free elsewhere')
        return Promise.resolve()
      })
      udp.close()
      tcp.close()
    })
  }
})

t.test('a port that is taken is an error that names it', { skip }, async t => {
  await withScratchNetns(netns => {
    const at = { protocol: 'udp', address: parseIp('192.0.2.1'), port: 53 } as const
    const fd = openBound(netns, at)
    t.throws(() => openBound(netns, at), { code: 'ERR_KERNEL', message: /192\.0\.2\.1 port 53\/udp.*EADDRINUSE/ })
    closeSync(fd)
    closeSync(openBound(netns, at))
    t.throws(() => openBound('/nowhere', at), { code: 'ERR_NETNS' })
    return Promise.resolve()
  })
})
