// The notes of one user: what the server has, with the edits from here on top of it.
import { editsOf, forget, noteAnswer, noteQueued, onJournalChange, writeDown } from './journal.js'

const url = `${env.api}notes`
const empty = { revision: 0, notes: [] }

/** What the list does not have yet: newest first, deleted ones too while only we know of that. */
const merge = (list, edits) => {
  const notes = new Map(list.notes.map((note) => [note.id, note]))
  for (const { id, method, note, state, status, revision } of edits) {
    if (revision <= list.revision) continue
    const deleted = method === 'DELETE'
    if (deleted && state === 'done') notes.delete(id)
    else notes.set(id, { ...notes.get(id), ...note, id, deleted, state, status })
  }
  return [...notes.values()].sort((a, b) => b.at - a.at)
}

/** Answers that say nothing about the edit: no sign-in, too much to do, a server that fails. */
const isPassing = ({ status }) => [401, 408, 425, 429].includes(status) || status >= 500

/** @param auth The token manager @param show Gets the notes, and how many edits are not sent */
export const createNotes = (auth, show) => {
  let user
  let list = empty

  /** Shows what is known, without the network. */
  const refresh = async () => {
    const shownFor = user
    const edits = shownFor === undefined ? [] : await editsOf(shownFor)
    if (shownFor !== user) return
    const unsent = edits.filter(({ state }) => state === 'new' || state === 'queued').length
    show(merge(list, edits), unsent)
    return { isSent: unsent === 0 && edits.some(({ state }) => state === 'done') }
  }

  /** Reads the list: the worker has it from the network, or from its cache without one. */
  const read = async () => {
    const loadedFor = user
    if (loadedFor === undefined) return
    const response = await fetch(url).catch(() => undefined)
    const next = response?.ok ? await response.json() : undefined
    // Two answers may overtake each other.
    if (!next || loadedFor !== user || next.revision < list.revision) return
    list = next
    await forget(user, ({ revision }) => revision <= list.revision)
    await refresh()
  }

  let reading
  const load = () => {
    reading ??= read().finally(() => {
      reading = undefined
    })
    return reading
  }

  const sendOne = async ({ key, method, id, note }) => {
    const response = await fetch(method === 'POST' ? url : `${url}/${id}`, {
      method,
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: note && JSON.stringify({ id, ...note }),
    })
    if (response.headers.get('x-tokenward') === 'queued') await noteQueued(key)
    else if (isPassing(response)) throw new Error(`The API answers ${response.status}.`)
    else await noteAnswer(key, response)
  }

  /** Gives new edits to the worker: one after the other, since their order counts, in one tab. */
  const send = () =>
    navigator.locks.request('field-notes', async () => {
      for (const edit of await editsOf(user)) {
        if (edit.state !== 'new') continue
        // This tab may have missed that somebody else has signed in.
        const session = await auth.session()
        if (session?.claims.sub !== edit.user) return
        await sendOne(edit)
      }
    })

  /** Sends what is there, and reads what came of it. A failure waits for the next occasion. */
  const sync = async () => {
    if (user === undefined) return
    await send().catch(() => {})
    await load()
  }

  /** Writes an edit down, and resolves; the sending goes on behind it. */
  const edit = async (method, id, note) => {
    await writeDown({ user, method, id, note })
    sync()
  }

  onJournalChange(async () => {
    const found = await refresh()
    // The last one has been sent, here or by the worker.
    if (found?.isSent) await load()
  })

  return {
    load,
    sync,
    create: (text) => edit('POST', crypto.randomUUID(), { text, at: Date.now() }),
    change: (id, text) => edit('PUT', id, { text, at: Date.now() }),
    delete: (id) => edit('DELETE', id),
    /** Somebody else, or nobody. */
    async setUser(next) {
      if (next === user) return
      user = next
      list = empty
      await refresh()
    },
    /** Forgets what is not sent. */
    async forget() {
      await forget(user)
      await refresh()
    },
  }
}
