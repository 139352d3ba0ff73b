import { readFileSync } from 'node:fs'
import t from 'tap'
import { mountsAt } from '#platform/mountinfo.ts'

const TEXT = `21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:5 / /proc rw - proc proc rw
30 21 0:24 /netns /run/netns rw shared:7 master:2 - tmpfs tmpfs rw
31 30 0:4 net:[4026532000] /run/netns/one rw - nsfs nsfs rw
32 30 0:4 net:[4026532001] /run/netns/one rw - nsfs nsfs rw
33 21 0:30 / /mnt/a\\040b rw master:3 - tmpfs shared:9 rw
`

t.test('the mounts at a mount point are found with their id and propagation, in order', t => {
  t.same(mountsAt(TEXT, '/'), [{ id: '21', shared: true }])
  t.same(mountsAt(TEXT, '/proc'), [{ id: '22', shared: false }])
  t.same(mountsAt(TEXT, '/run/netns'), [{ id: '30', shared: true }], 'shared and slave at once')
  t.same(mountsAt(TEXT, '/run/netns/one'), [
    { id: '31', shared: false },
    { id: '32', shared: false }
  ])
  t.same(mountsAt(TEXT, '/mnt/a\\040b'), [{ id: '33', shared: false }], 'a source named like an option')
  t.end()
})

t.test('a path that is not a mount point has no mounts', t => {
  for (const path of ['/run', '/run/netns/', '/run/netns/on', '/netns', 'proc', '', '-']) {
    t.same(mountsAt(TEXT, path), [], path)
  }
  t.same(mountsAt('', '/'), [])
  t.same(mountsAt('\n\n', ''), [], 'an empty line is not a mount at the empty path')
  t.end()
})

t.test('the mounts of this process include its root', t => {
  t.match(mountsAt(readFileSync('/proc/self/mountinfo', 'utf8'), '/'), [{ id: /^[0-9]+$/ }])
  t.end()
})
