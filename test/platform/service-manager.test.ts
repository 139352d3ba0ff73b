import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { ServiceManager } from '#platform/service-manager.ts'
import { scratch } from '#test/api/scratch.ts'
import { NotifySocket } from '#test/lab/notify-socket.ts'
import { waitFor } from '#test/lab/wait.ts'

t.test('ready, reloading, keep-alives and stopping reach a socket path and an abstract name', async t => {
  for (const address of [join(scratch(t), 'notify'), `@vxmesh-test-${process.pid}`]) {
    const socket = await NotifySocket.open(address)
    t.teardown(() => socket.close())
    const env = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000', WATCHDOG_PID: `${process.pid}`, OTHER: 'stays' }
    const manager = ServiceManager.take(env, systemClock)
    t.same(env, { OTHER: 'stays' }, 'children do not inherit the variables')
    manager.ready()
    let alive = true
    manager.beat({ alive: () => alive, status: () => 'two\nlines' })
    const beats = (): number => socket.lines.filter(line => line === 'WATCHDOG=1').length
    await waitFor('three keep-alives', () => beats() >= 3)
    alive = false
    manager.reloading()
    manager.ready()
    await waitFor('the second READY', () => socket.lines.filter(line => line === 'READY=1').length === 2)
    const then = beats()
    manager.stopping()
    await waitFor('STOPPING', () => socket.lines.includes('STOPPING=1'))
    t.equal(beats(), then, 'no keep-alive while not alive')
    manager.close()
    const states = socket.lines.filter(line => line !== 'WATCHDOG=1' && !line.startsWith('MONOTONIC_USEC='))
    t.same(states, ['READY=1', 'STATUS=two lines', 'RELOADING=1', 'READY=1', 'STOPPING=1'])
    t.match(
      socket.lines.find(line => line.startsWith('MONOTONIC_USEC=')),
      /^MONOTONIC_USEC=[0-9]+$/
    )
    t.ok(socket.notices.every(({ pid }) => pid === process.pid))
  }
})

t.test('a state that could not be sent is retried', async t => {
  const address = join(scratch(t), 'notify')
  const manager = ServiceManager.take({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000' }, systemClock)
  manager.ready()
  manager.beat({ alive: () => true, status: () => 'well' })
  const socket = await NotifySocket.open(address)
  t.teardown(() => socket.close())
  await waitFor('state and status', () => ['READY=1', 'STATUS=well'].every(line => socket.lines.includes(line)))
  manager.close()
})

t.test('nothing is sent without a service manager, and no keep-alive for the watchdog of another process', async t => {
  const manager = ServiceManager.take({}, systemClock)
  manager.ready()
  manager.beat({ alive: () => t.fail('called'), status: () => t.fail('called') as never })
  manager.close()
  const address = join(scratch(t), 'notify')
  const socket = await NotifySocket.open(address)
  t.teardown(() => socket.close())
  const other = ServiceManager.take({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000', WATCHDOG_PID: '1' }, systemClock)
  other.beat({ alive: () => t.fail('called'), status: () => 'well' })
  await waitFor('the status', () => socket.lines.includes('STATUS=well'))
  other.close()
  t.notOk(socket.lines.includes('WATCHDOG=1'))
})

t.test('an invalid address is refused by name', t => {
  for (const address of ['', 'relative', '/', '@', `/${'x'.repeat(107)}`, '/a\0b', 'vsock:2:1']) {
    t.throws(() => ServiceManager.take({ NOTIFY_SOCKET: address }, systemClock), {
      code: 'ERR_CONFIG',
      field: 'NOTIFY_SOCKET'
    })
  }
  t.end()
})
