import { expect, test } from 'vitest'
import type { ActiveRecord, SessionRecord, Transaction } from '../../sw/session/records.js'
import { recordAfterSignIn } from '../../sw/sign-in/signed-in-record.js'

const transaction: Transaction = {
  kind: 'check',
  createdAt: 0,
  returnTo: 'https://app.example/',
  generation: 4,
  report: 'hash',
  sent: { nonce: 'nonce', verifier: 'verifier', redirectUri: 'https://app.example/callback' },
}

/** What the answer of a hidden frame makes of the record; undefined if it comes too late. */
const afterFrame = (record: SessionRecord | undefined, more: Partial<Transaction> = {}) =>
  recordAfterSignIn(record, {
    transaction: { ...transaction, ...more } as Transaction,
    signIn: { accessToken: 'access', issuedAt: 1000, subject: 'alice', claims: {} },
    user: 'a hash',
    scope: 'openid',
    now: 1000,
    protocolEndpoints: [],
  })

const endings = ['ended', 'user_changed', 'storage_cleared', 'logout'] as const

test.each(endings)(
  'a hidden frame signs nobody in again if a session came and ended meanwhile (%s)',
  (reason) => {
    expect(afterFrame({ status: 'ended', generation: 6, reason })).toBeUndefined()
    expect(afterFrame({ status: 'ended', generation: 4, reason })).toMatchObject({
      status: 'active',
      subject: 'alice',
    })
  },
)

test('a hidden frame for a session that is over changes nothing', () => {
  const other = { status: 'active', generation: 6, session: 'another' } as ActiveRecord
  expect(afterFrame(other, { session: 'the first' })).toBeUndefined()
  expect(afterFrame(other)).toBeUndefined()
  const ended = { status: 'ended', generation: 4, reason: 'ended' } as const
  expect(afterFrame(ended, { session: 'the first' })).toBeUndefined()
})
