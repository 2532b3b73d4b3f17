// What the demo's API keeps for the field notes: each user's notes, and every edit in its order.

/**
 * @typedef {{ id: string, text: string, at: number }} Note `at`: when it was written, on the
 *   device; ms since 1970
 *
 * @typedef {object} Edit
 * @property {string} method POST, PUT or DELETE
 * @property {string} [id] Of the note; absent where the server is to choose one
 * @property {any} [body] What came as JSON
 * @property {string} [key] `Idempotency-Key`
 *
 * @typedef {object} AppliedEdit
 * @property {string} user
 * @property {string} method
 * @property {string} id
 * @property {string} [key]
 * @property {string} [text]
 *
 * @typedef {{ status: number, body: object }} Answer
 */

const MOST_LETTERS = 10_000

/** Notes in memory. A restart of the demo forgets them. */
export function createNotes() {
  const users = /** @type {Map<string, Map<string, Note>>} */ (new Map())
  /** By user and key: an edit that comes twice is applied once, and answered twice. */
  const answers = /** @type {Map<string, Answer>} */ (new Map())
  const appliedEdits = /** @type {AppliedEdit[]} */ ([])
  let revision = Date.now()

  const notesOf = (/** @type {string} */ user) => {
    const notes = users.get(user) ?? new Map()
    users.set(user, notes)
    return notes
  }

  /** It grows with every edit, also past a restart. */
  const nextRevision = () => {
    revision = Math.max(revision + 1, Date.now())
    return revision
  }

  /** @param {string} user @param {Edit} edit @returns {Answer} */
  const apply = (user, { method, id = crypto.randomUUID(), body, key }) => {
    const notes = notesOf(user)
    if (method === 'DELETE') {
      // Also of one that is not there: it is what was wanted.
      notes.delete(id)
    } else {
      const { text, at = Date.now() } = body ?? {}
      const isWrong = typeof text !== 'string' || text.length > MOST_LETTERS || !Number.isFinite(at)
      if (isWrong) return { status: 400, body: { detail: 'A note is { text, at }' } }
      notes.set(id, { id, text, at })
    }
    appliedEdits.push({ user, method, id, key, text: body?.text })
    return { status: method === 'POST' ? 201 : 200, body: { id, revision: nextRevision() } }
  }

  return {
    appliedEdits,
    /** @param {string} user */
    list: (user) => ({ revision, notes: [...notesOf(user).values()] }),
    /** @param {string} user @param {Edit} edit @returns {Answer} */
    edit(user, edit) {
      const name = JSON.stringify([user, edit.key])
      const answer = (edit.key && answers.get(name)) || apply(user, edit)
      if (edit.key) answers.set(name, answer)
      return answer
    },
  }
}
