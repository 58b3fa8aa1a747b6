"""The manager's methods for lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from voices_peewee.database.store import HasStore

if TYPE_CHECKING:
    from voices_peewee.database.results import ResultList
    from voices_peewee.schema.models import BaseModel, Speaker
    from voices_peewee.search.pages import Page
    from voices_peewee.search.words import Words


class SearchMethods(HasStore):
    """The manager's methods for lists."""

    def list_rows(
        self,
        noun: str,
        words: Words = (),
        *,
        search: str | None = None,
        sort: str | Sequence[str] | None = None,
        limit: int | None = 50,
        offset: int = 0,
        columns: Sequence[str] | None = None,
        whole: bool = False,
        **filters: Any,
    ) -> Page:
        """Return a page of ``speakers``, ``files``, ``history`` or ``performance``.

        Args:
            noun: What to list.
            words: Query words: one string, or one item a word; docs/search.md says what they
                can be.
            search: A text to look for as it is in names, paths and descriptions.
            sort: Columns; ``-`` before one that descends; what is empty comes last. Text is
                sorted by code point: capitals come first.
            limit: How many rows at most; None means all.
            offset: How many rows to pass over first.
            columns: The columns to show; a JSON column's keys follow it, as in
                ``parameters.shifts``. None means the usual ones.
            whole: Whether the usual ones are followed by the others of the table.
            filters: speaker, tag, model, operation, since, until, success, failed,
                unfinished; several narrow the list down.

        Returns:
            The page: ``columns``, ``rows`` to be read once, ``total``, ``dicts()``,
            ``to_dataframe()``.

        Raises:
            QueryError: A list, field or column is unknown, or a value cannot be read.
            NotFoundError: A filter names a speaker that is not there.
            AmbiguousNameError: A filter names a speaker whose name others have.
            InvalidValueError: ``limit`` or ``offset`` is negative.
        """
        from voices_peewee.search.pages import Question

        question = Question(self.store, noun, words, search, **filters)
        columns = question.listing.whole if whole and columns is None else columns
        return question.page(columns, sort, limit, offset)

    def search(
        self,
        noun: str,
        words: Words = (),
        *,
        search: str | None = None,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        **filters: Any,
    ) -> ResultList[BaseModel]:
        """Return what matches as model objects, in a list that notebooks show as a table.

        It is asked as ``list_rows`` is and raises the same; without a limit it is all of them.
        """
        from voices_peewee.search.pages import Question

        question = Question(self.store, noun, words, search, **filters)
        return question.objects(sort, limit, offset)

    def search_speakers(self, text: str) -> list[Speaker]:
        """Return the speakers whose name or description holds a text, by name.

        Raises:
            InvalidValueError: It is no text.
        """
        from voices_peewee.schema.exact import exact_text
        from voices_peewee.schema.models import Speaker
        from voices_peewee.search.conditions import contains, either, stored

        part = stored(exact_text("text", text))
        named = [contains(field, part) for field in (Speaker.name, Speaker.description)]
        with self.store.answering():
            query = self.store.query(Speaker).where(either(named))
            return query.order_by(Speaker.name, Speaker.id).all()

    def find_speakers_by_tags(
        self, tags: Iterable[str] | str, *, match_all: bool = False
    ) -> list[Speaker]:
        """Return the speakers that have any of the tags, or all of them, by name.

        Raises:
            InvalidValueError: A tag is no text.
        """
        from voices_peewee.schema.fields import clean_tags

        quoted = ['"{}"'.format(tag.replace('"', '""')) for tag in clean_tags(tags)]
        each = quoted if match_all else [",".join(quoted)] if quoted else []
        found: list[Any] = self.search("speakers", [f"tag:{one}" for one in each]) if each else []
        return found
