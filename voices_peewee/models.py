"""The models, at their public place."""

from __future__ import annotations

from voices_peewee.schema.models import MODELS as MODELS
from voices_peewee.schema.models import BaseModel as BaseModel
from voices_peewee.schema.models import Claim as Claim
from voices_peewee.schema.models import Environment as Environment
from voices_peewee.schema.models import ListeningTest as ListeningTest
from voices_peewee.schema.models import ListeningVote as ListeningVote
from voices_peewee.schema.models import ModelPerformance as ModelPerformance
from voices_peewee.schema.models import ProcessedFile as ProcessedFile
from voices_peewee.schema.models import ProcessingHistory as ProcessingHistory
from voices_peewee.schema.models import Speaker as Speaker
from voices_peewee.schema.models import database_proxy as database_proxy
