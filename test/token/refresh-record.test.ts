import { describe, expect, test } from 'vitest'
import type { ActiveRecord } from '../../sw/session/records.js'
import { json } from '../support/fake-authorization-server.js'
import { createUnitWorld } from '../support/worker-parts.js'

/** Frames that have brought nothing, before the refresh. */
const silentLoginFailed = { times: 3, at: 0 }

const refreshWith = async (answer: () => Response | Promise<Response>) => {
  const world = createUnitWorld()
  const worker = world.createWorker()
  const before = await world.signIn({ silentLoginFailed })
  await worker.authorizationServer.refresh('a first request, for the metadata')
  world.server.answers.push(answer)
  const outcome = await worker.refresh(before)
  return { outcome, record: (await worker.store.read()) as ActiveRecord }
}

describe('hidden frames that brought nothing', () => {
  test('are forgotten once a refresh gets no answer: it was the server', async () => {
    const noAnswer = () => Promise.reject(new TypeError('Failed to fetch'))
    expect((await refreshWith(noAnswer)).record.silentLoginFailed).toBeUndefined()
  })

  test('still count after an answer that says later', async () => {
    const later = () => new Response('', { status: 503 })
    expect((await refreshWith(later)).record.silentLoginFailed).toEqual(silentLoginFailed)
  })
})

test('the refusal of a refresh token leaves one alone that has come meanwhile', async () => {
  const world = createUnitWorld()
  const worker = world.createWorker()
  const before = await world.signIn()
  await worker.authorizationServer.refresh('a first request, for the metadata')
  world.server.answers.push(async () => {
    await worker.session.changeOwn(before.session, (current) => ({
      ...current,
      refreshToken: 'newer',
    }))
    return json({ error: 'invalid_grant' }, 400)
  })
  expect(await worker.refresh(before)).toEqual({ kind: 'superseded' })
  expect(await worker.store.read()).toMatchObject({ refreshToken: 'newer' })
})
