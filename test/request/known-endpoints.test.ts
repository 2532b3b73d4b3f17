import { expect, test, vi } from 'vitest'
import { createProtocolEndpoints } from '../../sw/request/protocol-endpoints.js'
import { activeRecord } from '../support/worker-parts.js'

const createWorld = (stored: readonly string[], known: readonly string[] = []) => {
  const world = { record: activeRecord(0, { protocolEndpoints: stored }), known }
  const { includes } = createProtocolEndpoints({
    config: { clientId: 'app' },
    server: { protocolEndpoints: () => world.known, recallEndpoints: async () => {} },
    session: { peek: () => ({ record: world.record }), read: async () => world.record },
    platform: { fetch: async () => new Response() },
  })
  return { world, includes: (url: string) => includes(new URL(url)) }
}

const token = 'https://login.example/token'

test('an endpoint is known by the record, until the server has said all of them', () => {
  const { world, includes } = createWorld([token])
  expect(includes('https://login.example/TOKEN/')).toBe(true)
  expect(includes('https://login.example/other')).toBeUndefined()
  expect(includes('https://login.example.evil.example/token')).toBeUndefined()
  world.known = ['https://login.example/revoke']
  expect(includes('https://login.example/other')).toBe(false)
  expect(includes('https://login.example/revoke?a')).toBe(true)
  expect(includes(token)).toBe(true)
  world.record = activeRecord(0, { protocolEndpoints: [] })
  expect(includes(token)).toBe(false)
})

test('a long list in the record is gone through once, and not for every request', () => {
  const list = new Array(10_000).fill(token)
  const gone = vi.fn()
  const watched = new Proxy(list, {
    get: (target, name) => {
      if (name === Symbol.iterator) gone()
      return Reflect.get(target, name)
    },
  })
  const { includes } = createWorld(watched, ['https://login.example/revoke'])
  for (let request = 0; request < 5; request++) includes(`https://api.example/${request}`)
  expect(gone).toHaveBeenCalledTimes(1)
})
